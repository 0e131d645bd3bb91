package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"ninja/ca"
	"ninja/cmd/home"
	"ninja/internal/world"
	"ninja/sds"
	"ninja/sds/announce"
	"ninja/sds/check"
)

type publishCommand struct {
	File  string `arg:"" type:"existingfile" help:"The description, one XML document."`
	Name  string `help:"Name of the service; the default is the document's name attribute, or the file's name."`
	Watch bool   `help:"Publish again whenever the file changes."`
	// Numbers are read again whenever the file changes, also without Watch: they are there to change.
	Numbers string `type:"existingfile" placeholder:"FILE" help:"Named numbers that queries can sort and compare by: lines NAME=NUMBER, as in queue=3; told again whenever the file changes."`
}

// Run announces the description until it is interrupted, then withdraws it.
func (p *publishCommand) Run(ctx context.Context, c *commands) error {
	description, name, err := p.read()
	if err != nil {
		return err
	}
	h, err := home.Open(ctx, c.Home)
	if err != nil {
		return err
	}
	if err := h.Stay(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	client, err := h.SDS(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	cfg, err := h.Announcing(client)
	if err != nil {
		return err
	}
	a, err := announce.New(cfg)
	if err != nil {
		return err
	}
	to, err := begin(ctx, client, h.Identity.ID(), name)
	if err != nil {
		return err
	}
	if err := a.Publish(name, description); err != nil {
		return err
	}
	var last string
	if err := p.tellNumbers(a, name, &last); err != nil {
		return err
	}
	// The announcer outlives the interrupt for as long as the withdrawal takes.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- a.Run(running) }()
	defer func() {
		a.Withdraw(name)
		_ = world.Sleep(context.WithoutCancel(ctx), withdrawTime)
		stop()
		<-ended
	}()
	if err := to.accepted(ctx, description); err != nil {
		return fmt.Errorf("%s: %w", p.File, err)
	}
	id := fmt.Sprintf("%s#%s", h.Identity.ID(), name)
	fmt.Printf("%s is published (%d bytes); interrupt to withdraw it\n", id, len(description))
	fmt.Printf("only you can find it until you say otherwise: ninjactl acl grant %s everyone find\n", name)
	return p.follow(ctx, a, to, description, ended)
}

// withdrawTime lets the last datagrams out.
const withdrawTime = 300 * time.Millisecond

// publication is a description on its way into the server.
type publication struct {
	client *sds.Client
	owner  ca.ID
	name   string
	// since is when it was published, by the server's clock: what the server refused before was another.
	since time.Time
}

// begin asks the server's clock, before something is published.
func begin(ctx context.Context, client *sds.Client, owner ca.ID, name string) (publication, error) {
	status, err := client.Status(ctx)
	return publication{client, owner, name, status.Now}, err
}

// takeTime is how long a server may take to know of a description.
const takeTime = 20 * time.Second

// accepted waits until the server has the description, or says why not.
func (p publication) accepted(ctx context.Context, description []byte) error {
	ctx, cancel := context.WithTimeout(ctx, takeTime)
	defer cancel()
	for {
		found, err := p.client.Query(ctx, sds.Query{By: p.owner})
		for _, f := range found {
			if f.Name == p.name && bytes.Equal(f.Description, description) {
				return nil
			}
		}
		status, told := p.client.Status(ctx)
		for _, r := range status.Refused {
			if r.Name == p.name && !r.At.Before(p.since) {
				return &r.Refused
			}
		}
		if world.Sleep(ctx, 100*time.Millisecond) != nil {
			return fmt.Errorf("the SDS server has not taken %q in within %v: %w (its log may say why)", p.name, takeTime, errors.Join(err, told, ctx.Err()))
		}
	}
}

// follow publishes the file again when it changes, until ctx ends. What is not taken then leaves what was published
// before.
func (p *publishCommand) follow(ctx context.Context, a *announce.Announcer, to publication, before []byte, ended <-chan error) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	var complaint, last string
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			return err
		case <-tick.C:
		}
		err := p.tellNumbers(a, to.name, &last)
		if p.Watch && err == nil {
			before, err = p.changed(ctx, a, to, before)
		}
		if err == nil {
			complaint = ""
		} else if ctx.Err() == nil && err.Error() != complaint { // once, not twice a second
			complaint = err.Error()
			fmt.Fprintln(os.Stderr, "ninjactl: not published as it is now:", err)
		}
	}
}

// changed publishes the file if it is another than before, and returns what was tried last.
func (p *publishCommand) changed(ctx context.Context, a *announce.Announcer, to publication, before []byte) ([]byte, error) {
	now, _, err := p.read()
	if err != nil || bytes.Equal(now, before) {
		return before, err
	}
	if err := p.again(ctx, a, to, now); err != nil {
		return now, err
	}
	fmt.Printf("%s: published again (%d bytes)\n", to.name, len(now))
	return now, nil
}

// tellNumbers sets the named numbers of the file, if there is one and it says something else than last.
func (p *publishCommand) tellNumbers(a *announce.Announcer, name string, last *string) error {
	if p.Numbers == "" {
		return nil
	}
	b, err := readAtMost(p.Numbers, maxNumbers)
	if err != nil || string(b) == *last {
		return err
	}
	numbers, err := parseNumbers(string(b))
	if err != nil {
		return fmt.Errorf("%s: %w", p.Numbers, err)
	}
	a.SetNumbers(name, numbers)
	*last = string(b)
	return nil
}

// maxNumbers bounds a file of named numbers.
const maxNumbers = 64 << 10

// parseNumbers reads lines NAME=NUMBER.
func parseNumbers(text string) (map[string]float64, error) {
	numbers := make(map[string]float64)
	line := 0
	for s := range strings.Lines(text) {
		line++
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		name, value, ok := strings.Cut(s, "=")
		n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if !ok || err != nil {
			return nil, fmt.Errorf("line %d: %.40q: want NAME=NUMBER, as in queue=3", line, s)
		}
		numbers[strings.TrimSpace(name)] = n
	}
	return numbers, announce.CheckNumbers(numbers)
}

// readAtMost reads a file, of which no more than a bound is wanted.
func readAtMost(file string, most int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

// again publishes a changed description and waits until the server has it.
func (p *publishCommand) again(ctx context.Context, a *announce.Announcer, to publication, description []byte) error {
	to, err := begin(ctx, to.client, to.owner, to.name)
	if err == nil {
		err = a.Publish(to.name, description)
	}
	if err == nil {
		err = to.accepted(ctx, description)
	}
	return err
}

// read reads and checks the file: what the server would refuse is refused here, with the same words.
func (p *publishCommand) read() (description []byte, name string, err error) {
	doc, err := readDescription(p.File)
	if err != nil {
		return nil, "", err
	}
	name = p.Name
	for _, a := range doc.Attributes(0) {
		if name == "" && a.Local == "name" && a.Space == "" {
			name = a.Value
		}
	}
	if name == "" {
		name = strings.TrimSuffix(filepath.Base(p.File), filepath.Ext(p.File))
	}
	return []byte(doc.Source()), name, announce.CheckName(name)
}

// readDescription reads a file as a server would.
func readDescription(file string) (*check.Document, error) {
	b, err := readAtMost(file, announce.MaxDescription+1)
	if err != nil {
		return nil, err
	}
	doc, err := check.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return doc, nil
}
