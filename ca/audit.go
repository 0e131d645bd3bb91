package ca

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Record is one line of the audit log.
type Record struct {
	Time time.Time `json:"time"`
	// Event is what was done. The authority writes token, join, renew, ban, lift ban, rotate, trust domain, distrust domain,
	// audit; the capability manager and the path creator what they grant and make.
	Event string `json:"event"`
	// By is who did it, where it is not ID itself.
	By ID `json:"by,omitempty"`
	// ID is whom it is about; "" where nobody proved to be anyone.
	ID ID `json:"id,omitempty"`
	// About is what it is about, where that is no principal: a domain, a service, a path.
	About string `json:"about,omitempty"`
	// Detail says more, for a person.
	Detail string `json:"detail,omitempty"`
	// Certificate is the SHA-256 of the certificate that was issued.
	Certificate string `json:"certificate,omitempty"`
	// Denied is why nothing was done.
	Denied string `json:"denied,omitempty"`
	// Unwritten is how many denials before this one were not recorded, because there were too many.
	Unwritten int `json:"unwritten,omitempty"`
	// After is the hash of the line before (its first 16 bytes, hexadecimal), "" in the first: a line that is changed,
	// taken out or put in between breaks the chain behind it.
	After string `json:"after,omitempty"`
}

// maxDenials bounds the denials recorded a second: strangers must not be able to fill the disk.
const maxDenials = 10

// AuditLog is a file of JSON lines to which is only ever appended. A nil AuditLog records nothing.
type AuditLog struct {
	mu        sync.Mutex
	f         *os.File
	last      string // hash of the last line
	second    int64  // in which denials were recorded last
	denials   int    // how many in that second
	unwritten int
}

// OpenAuditLog opens or makes audit.jsonl in a directory.
func OpenAuditLog(dir string) (*AuditLog, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, fileAudit), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	l := &AuditLog{f: f}
	var lines []string
	if err = l.dropTorn(); err == nil {
		lines, err = l.Tail(1)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("audit log: %w", err), f.Close())
	}
	if len(lines) > 0 {
		l.last = lineHash(lines[0])
	}
	return l, nil
}

// dropTorn takes away a last line without its end, which a crash left: it was never acknowledged.
func (l *AuditLog) dropTorn() error {
	info, err := l.f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	end := make([]byte, min(info.Size(), maxTailBytes))
	if _, err := l.f.ReadAt(end, info.Size()-int64(len(end))); err != nil && err != io.EOF {
		return err
	}
	torn := len(end) - 1 - bytes.LastIndexByte(end, '\n')
	if torn == 0 {
		return nil
	}
	return l.f.Truncate(info.Size() - int64(torn))
}

// lineHash names a line in the one behind it.
func lineHash(line string) string {
	sum := sha256.Sum256([]byte(line))
	return hex.EncodeToString(sum[:16])
}

// VerifyAudit reads a whole audit log and says how many lines it has. The error names the first line that does not
// follow the one before: there something was changed, taken out or put in. What was cut off at the end cannot be seen in
// the log itself: compare the count, or the last line, with what was noted elsewhere.
func VerifyAudit(r io.Reader) (lines int, err error) {
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxTailBytes)
	last := ""
	for in.Scan() {
		lines++
		var record Record
		if err := json.Unmarshal(in.Bytes(), &record); err != nil {
			return lines, fmt.Errorf("audit log: line %d cannot be read: %w", lines, err)
		}
		if record.After != last {
			return lines, fmt.Errorf("audit log: line %d does not follow line %d: the log was changed there", lines, lines-1)
		}
		last = lineHash(in.Text())
	}
	return lines, in.Err()
}

// Write appends a record. What was issued is on disk before anyone gets it; denials, which anyone can cause, are not
// waited for.
func (l *AuditLog) Write(r Record) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Denied != "" && !l.room(r.Time) {
		l.unwritten++
		return nil
	}
	r.Unwritten, r.After = l.unwritten, l.last
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err = l.f.Write(append(line, '\n')); err != nil {
		return err
	}
	l.unwritten, l.last = 0, lineHash(string(line))
	if r.Denied == "" {
		err = l.f.Sync()
	}
	return err
}

// room says whether another denial may be recorded now.
func (l *AuditLog) room(now time.Time) bool {
	if s := now.Unix(); s != l.second {
		l.second, l.denials = s, 0
	}
	l.denials++
	return l.denials <= maxDenials
}

// Limits of Tail.
const (
	tailLines    = 100
	maxTailLines = 1000
	maxTailBytes = 256 << 10
)

// Tail returns the newest lines, oldest first: at most n (0: 100), 1,000 and 256 KiB.
func (l *AuditLog) Tail(n int) ([]string, error) {
	if l == nil {
		return nil, nil
	}
	if n <= 0 {
		n = tailLines
	}
	n = min(n, maxTailLines)
	info, err := l.f.Stat()
	if err != nil {
		return nil, err
	}
	from := max(0, info.Size()-maxTailBytes)
	content := make([]byte, info.Size()-from)
	if _, err := l.f.ReadAt(content, from); err != nil && err != io.EOF {
		return nil, err
	}
	if from > 0 { // the first line is cut
		_, content, _ = bytes.Cut(content, []byte("\n"))
	}
	var lines []string
	for line := range bytes.Lines(content) {
		lines = append(lines, string(bytes.TrimSuffix(line, []byte("\n"))))
	}
	return lines[max(0, len(lines)-n):], nil
}

// Close closes the file.
func (l *AuditLog) Close() error {
	if l == nil {
		return nil
	}
	return l.f.Close()
}
