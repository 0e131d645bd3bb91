// A text telephone for tests, of mediastreamer2 alone: it sends what comes on its standard input, a character at a time,
// and prints what it receives, by RTP (RFC 4103) with redundancy (RFC 2198).
//
//   typist LOCAL-IP LOCAL-PORT REMOTE-IP REMOTE-PORT RED-TYPE TEXT-TYPE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <bctoolbox/logging.h>
#include <mediastreamer2/mediastream.h>
#include <mediastreamer2/msrtt4103.h>
#include <ortp/ortp.h>

static void received(void *unused, MSFilter *filter, unsigned int event, void *argument) {
	(void)unused;
	(void)filter;
	if (event != MS_RTT_4103_RECEIVED_CHAR) return;
	unsigned c = ((RealtimeTextReceivedCharacter *)argument)->character;
	if (c < 0x80) {
		putchar((int)c);
	} else if (c < 0x800) {
		putchar((int)(0xc0 | c >> 6));
		putchar((int)(0x80 | (c & 0x3f)));
	} else {
		putchar((int)(0xe0 | c >> 12));
		putchar((int)(0x80 | (c >> 6 & 0x3f)));
		putchar((int)(0x80 | (c & 0x3f)));
	}
	fflush(stdout);
}

int main(int argc, char **argv) {
	if (argc != 7) return 2;
	int red = atoi(argv[5]), text = atoi(argv[6]);
	bctbx_set_log_level(NULL, BCTBX_LOG_FATAL); // it would speak on the standard output
	MSFactory *factory = ms_factory_new_with_voip();
	RtpProfile *profile = rtp_profile_new("text");
	PayloadType *plain = payload_type_clone(&payload_type_t140);
	payload_type_set_flag(plain, PAYLOAD_TYPE_FLAG_CAN_SEND | PAYLOAD_TYPE_FLAG_CAN_RECV);
	rtp_profile_set_payload(profile, text, plain);
	if (red != text) {
		PayloadType *p = payload_type_clone(&payload_type_t140_red);
		char fmtp[64];
		snprintf(fmtp, sizeof fmtp, "%d/%d/%d", text, text, text);
		payload_type_set_recv_fmtp(p, fmtp);
		payload_type_set_send_fmtp(p, fmtp);
		payload_type_set_flag(p, PAYLOAD_TYPE_FLAG_CAN_SEND | PAYLOAD_TYPE_FLAG_CAN_RECV);
		rtp_profile_set_payload(profile, red, p);
	}
	TextStream *stream = text_stream_new2(factory, argv[1], atoi(argv[2]), atoi(argv[2]) + 1);
	if (!text_stream_start(stream, profile, argv[3], atoi(argv[4]), argv[3], atoi(argv[4]) + 1, red)) return 1;
	ms_filter_add_notify_callback(stream->rttsink, received, NULL, TRUE);
	fcntl(0, F_SETFL, O_NONBLOCK);
	for (int open = 1, quiet = 0; quiet < 100;) { // two seconds after the end of the input it says goodbye
		char c;
		ssize_t n = open ? read(0, &c, 1) : -1;
		if (n == 1) {
			text_stream_putchar32(stream, (uint32_t)(unsigned char)c);
		} else if (n == 0) {
			open = 0;
		} else {
			if (!open) quiet++;
		}
		text_stream_iterate(stream);
		usleep(20000);
	}
	text_stream_stop(stream);
	ms_factory_destroy(factory);
	return 0;
}
