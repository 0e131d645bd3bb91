// Package browsertest drives a real headless Chromium in tests, over its debugging pipe: pages are loaded, asked by
// JavaScript, and photographed.
package browsertest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// program is Debian's.
const program = "/usr/bin/chromium"

// Browser is a running Chromium with one page.
type Browser struct {
	t       testing.TB
	in      io.Writer
	session string

	mu      sync.Mutex
	next    int
	waiting map[int]chan answer
}

type answer struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// Start starts a Chromium whose microphone says the WAV file (48 kHz, one channel) once, from when the page asks for it.
// It ends with the test.
func Start(t testing.TB, microphone string) *Browser {
	t.Helper()
	theirIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--user-data-dir="+t.TempDir(),
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=720,1000",
		"--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--use-file-for-fake-audio-capture="+microphone+"%noloop",
		"--autoplay-policy=no-user-gesture-required", "--disable-features=WebRtcHideLocalIpsWithMdns", "about:blank")
	cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s (make checkers installs it): %v", program, err)
	}
	theirIn.Close()
	theirOut.Close()
	b := &Browser{t: t, in: in, waiting: make(map[int]chan answer)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		b.read(out)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its own group: all its helpers
		_ = cmd.Wait()
		in.Close()
		out.Close()
		<-read
	})
	var target struct{ TargetID string }
	b.must("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.must("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	b.must("Page.enable", nil, nil)
	return b
}

// read hands answers to whoever waits for them.
func (b *Browser) read(out io.Reader) {
	r := bufio.NewReaderSize(out, 1<<20)
	for {
		m, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var a answer
		if json.Unmarshal(bytes.TrimSuffix(m, []byte{0}), &a) != nil || a.ID == 0 {
			continue
		}
		b.mu.Lock()
		c := b.waiting[a.ID]
		delete(b.waiting, a.ID)
		b.mu.Unlock()
		if c != nil {
			c <- a
		}
	}
}

// patience bounds every answer.
const patience = 30 * time.Second

func (b *Browser) ask(method string, params any, result any) error {
	b.mu.Lock()
	b.next++
	id, c := b.next, make(chan answer, 1)
	b.waiting[id] = c
	b.mu.Unlock()
	m := map[string]any{"id": id, "method": method}
	if params != nil {
		m["params"] = params
	}
	if b.session != "" {
		m["sessionId"] = b.session
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if _, err := b.in.Write(append(raw, 0)); err != nil {
		return err
	}
	select {
	case a := <-c:
		if a.Error != nil {
			return fmt.Errorf("%s: %s", method, a.Error.Message)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(a.Result, result)
	case <-time.After(patience):
		return fmt.Errorf("%s: no answer in %v", method, patience)
	}
}

func (b *Browser) must(method string, params any, result any) {
	b.t.Helper()
	if err := b.ask(method, params, result); err != nil {
		b.t.Fatal(err)
	}
}

// Open loads a page.
func (b *Browser) Open(url string) {
	b.t.Helper()
	b.must("Page.navigate", map[string]any{"url": url}, nil)
}

// Eval evaluates an expression in the page, waits for it when it is a promise, and stores its value.
func (b *Browser) Eval(expression string, value any) error {
	var r struct {
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		Exception *struct {
			Text      string `json:"text"`
			Exception struct {
				Description string `json:"description"`
			} `json:"exception"`
		} `json:"exceptionDetails"`
	}
	err := b.ask("Runtime.evaluate", map[string]any{
		"expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true,
	}, &r)
	if err == nil && r.Exception != nil {
		err = errors.New(r.Exception.Text + " " + r.Exception.Exception.Description)
	}
	if err != nil || value == nil {
		return err
	}
	return json.Unmarshal(r.Result.Value, value)
}

// Await waits until an expression is true.
func (b *Browser) Await(ctx context.Context, expression string) {
	b.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var ok bool
		err := b.Eval("!!("+expression+")", &ok)
		if err == nil && ok {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			b.t.Fatalf("%s: not in time (%v); the page says: %s", expression, err, b.Text())
		}
	}
}

// Key presses and releases a key, such as "Tab" or "Enter".
func (b *Browser) Key(key string) {
	b.t.Helper()
	for _, kind := range []string{"rawKeyDown", "char", "keyUp"} {
		p := map[string]any{"type": kind, "key": key, "code": key}
		switch key {
		case "Enter":
			p["windowsVirtualKeyCode"], p["text"] = 13, "\r"
		case "Tab":
			p["windowsVirtualKeyCode"] = 9
			if kind == "char" {
				continue
			}
		}
		b.must("Input.dispatchKeyEvent", p, nil)
	}
}

// Text is what the page shows.
func (b *Browser) Text() string {
	var s string
	_ = b.Eval("document.body.innerText", &s)
	return s
}

// Screenshot photographs the page as PNG.
func (b *Browser) Screenshot() []byte {
	b.t.Helper()
	var r struct{ Data string }
	b.must("Page.captureScreenshot", map[string]any{"format": "png"}, &r)
	png, err := base64.StdEncoding.DecodeString(r.Data)
	if err != nil {
		b.t.Fatal(err)
	}
	return png
}
