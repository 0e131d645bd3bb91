package ca

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Record is one line of the audit log.
type Record struct {
	Time  time.Time `json:"time"`
	Event string    `json:"event"` // token, join, renew, ban, lift ban, audit
	// By is who did it, where it is not ID itself.
	By ID `json:"by,omitempty"`
	// ID is whom it is about; "" where nobody proved to be anyone.
	ID ID `json:"id,omitempty"`
	// Certificate is the SHA-256 of the certificate that was issued.
	Certificate string `json:"certificate,omitempty"`
	// Denied is why nothing was done.
	Denied string `json:"denied,omitempty"`
	// Unwritten is how many denials before this one were not recorded, because there were too many.
	Unwritten int `json:"unwritten,omitempty"`
}

// maxDenials bounds the denials recorded a second: strangers must not be able to fill the disk.
const maxDenials = 10

// AuditLog is a file of JSON lines to which is only ever appended. A nil AuditLog records nothing.
type AuditLog struct {
	mu        sync.Mutex
	f         *os.File
	second    int64 // in which denials were recorded last
	denials   int   // how many in that second
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
	return &AuditLog{f: f}, nil
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
	r.Unwritten, l.unwritten = l.unwritten, 0
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err = l.f.Write(append(line, '\n')); err == nil && r.Denied == "" {
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
