/*
 * ninja-recognise: a speech recogniser as a child program, on libpocketsphinx.
 *
 * It is a program of its own because a fault in the engine must kill neither the node nor the path: its parent sees the
 * end of the pipe, starts another and gives it the same audio again. It holds a decoder, answers requests one by one in
 * their order and ends when its standard input ends. It opens no file but the model's and uses no network.
 *
 * Requests come on standard input, answers go to standard output, each in one frame:
 *
 *      0                   1                   2                   3
 *      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *     |               length of the body, big endian                  |
 *     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *     |     kind      |  body ...
 *     +-+-+-+-+-+-+-+-+-+-+-+-+
 *
 *     kind   body                                   answer's body
 *     'L'    words, one a line                      those the dictionary does not have, one a line
 *     'A'    WORD PHONE PHONE ..., one a line       empty: the words are known now
 *     'G'    a JSGF grammar                         empty: it is the one in use now
 *     'U'    a whole utterance, 16 kHz mono,        the words heard, empty when nothing fits the grammar
 *            signed 16-bit little endian
 *
 *     An answer has the kind of its request, or 'E' with a sentence that says what was wrong.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <pocketsphinx.h>
#include <sphinxbase/err.h>

#define MAX_BODY (4u << 20)  /* two minutes of speech; the largest grammar */
#define MAX_MEMORY (1u << 30)

#ifndef MODEL
#define MODEL "/usr/share/pocketsphinx/model/en-us"
#endif

static ps_decoder_t *decoder;

/* transfer reads or writes exactly n bytes; 0 at the end of the stream. */
static int transfer(int fd, unsigned char *p, size_t n, int writing)
{
    while (n > 0) {
        ssize_t k = writing ? write(fd, p, n) : read(fd, p, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return 0;
        p += k;
        n -= (size_t)k;
    }
    return 1;
}

static int answer(char kind, const char *body, size_t n)
{
    unsigned char head[5] = {n >> 24, n >> 16, n >> 8, n, kind};
    return transfer(1, head, sizeof head, 1) && transfer(1, (unsigned char *)body, n, 1);
}

static int refuse(const char *why) { return answer('E', why, strlen(why)); }

/* line cuts the next line out of *rest; NULL when there is none. */
static char *line(char **rest)
{
    char *start = *rest, *end;
    if (start == NULL || *start == '\0')
        return NULL;
    end = strchr(start, '\n');
    if (end != NULL)
        *end++ = '\0';
    *rest = end;
    return start;
}

static int lookup(char *body, size_t n)
{
    char *missing = malloc(n + 2), *word;
    size_t len = 0;
    int ok;
    if (missing == NULL)
        return refuse("out of memory");
    while ((word = line(&body)) != NULL) {
        char *phones = ps_lookup_word(decoder, word);
        if (phones == NULL)
            len += (size_t)sprintf(missing + len, "%s\n", word);
        ckd_free(phones);
    }
    ok = answer('L', missing, len);
    free(missing);
    return ok;
}

static int add(char *body)
{
    char *word;
    while ((word = line(&body)) != NULL) {
        char *phones = strchr(word, ' '), *known;
        if (phones == NULL)
            return refuse("a word without phones");
        *phones++ = '\0';
        if ((known = ps_lookup_word(decoder, word)) != NULL)
            ckd_free(known);
        else if (ps_add_word(decoder, word, phones, 0) < 0)
            return refuse("a word's phones are not those of the model");
    }
    return answer('A', "", 0);
}

static int grammar(const char *jsgf)
{
    static const char *const name[2] = {"even", "odd"};
    static int turn;
    /* The old grammar stays in use until the new one is known to be good. */
    if (ps_set_jsgf_string(decoder, name[turn], jsgf) < 0 || ps_set_search(decoder, name[turn]) < 0)
        return refuse("the grammar is not JSGF with one public rule over known words");
    turn = !turn;
    ps_unset_search(decoder, name[turn]);
    return answer('G', "", 0);
}

static int utterance(const unsigned char *body, size_t n)
{
    const char *words;
    if (ps_get_search(decoder) == NULL)
        return refuse("an utterance before any grammar");
    if (n < 2 * 1600) /* shorter than a syllable; the front end wants a few frames */
        return answer('U', "", 0);
    if (ps_start_utt(decoder) < 0)
        return refuse("the decoder did not start");
    /* Whole utterances: the normalisation of the spectrum sees all of it, which live mode cannot. */
    if (ps_process_raw(decoder, (const int16 *)body, n / 2, FALSE, TRUE) < 0) {
        ps_end_utt(decoder);
        return refuse("the decoder did not take the utterance");
    }
    if (ps_end_utt(decoder) < 0)
        return refuse("the decoder did not finish");
    words = ps_get_hyp(decoder, NULL);
    return answer('U', words == NULL ? "" : words, words == NULL ? 0 : strlen(words));
}

static int serve(unsigned char *buffer)
{
    unsigned char head[5];
    size_t n;
    if (!transfer(0, head, sizeof head, 0))
        return 0;
    n = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
    if (n > MAX_BODY)
        return refuse("the frame is longer than 4 MiB"), 0;
    if (!transfer(0, buffer, n, 0))
        return 0;
    buffer[n] = '\0';
    switch (head[4]) {
    case 'L': return lookup((char *)buffer, n);
    case 'A': return add((char *)buffer);
    case 'G': return grammar((char *)buffer);
    case 'U': return utterance(buffer, n);
    }
    return refuse("no request of that kind");
}

int main(void)
{
    struct rlimit memory = {MAX_MEMORY, MAX_MEMORY}, core = {0, 0};
    unsigned char *buffer = malloc(MAX_BODY + 1);
    cmd_ln_t *config;

    setrlimit(RLIMIT_AS, &memory);
    setrlimit(RLIMIT_CORE, &core);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    err_set_logfp(NULL); /* it prints hundreds of lines otherwise */
    config = cmd_ln_init(NULL, ps_args(), TRUE, "-hmm", MODEL "/en-us", "-dict", MODEL "/cmudict-en-us.dict",
                         "-cmn", "batch", "-remove_noise", "yes",
                         "-wip", "0.01" /* fewer words for one: see "A word costs" in RATIONALE.md */, NULL);
    if (buffer == NULL || config == NULL || (decoder = ps_init(config)) == NULL) {
        refuse("the model cannot be loaded from " MODEL ": install pocketsphinx-en-us");
        return 1;
    }
    while (serve(buffer)) {
    }
    return 0;
}
