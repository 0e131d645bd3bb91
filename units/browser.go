package units

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"ninja/connectors"
	"ninja/connectors/webrtc"
	"ninja/internal/world"
	"ninja/operators"
	"ninja/operators/audio"
	"ninja/operators/speech"
)

// BrowserConfig makes a Browser.
type BrowserConfig struct {
	Name string
	// World is required.
	World world.World
	// At is the address that the page's connection reaches this process at; the unspecified one offers all of the
	// machine's.
	At netip.Addr
	// Opus has the microphone speak audio/opus instead of audio/PCMU: the whole voice, for whoever can decode it.
	Opus bool
	// Call makes the path of a call and waits for its end: of ctx, of the call, or its failure, which is told to the user.
	// It tells of what happens on the way (kinds are those of the path's notes). nil leaves it to others to make the path.
	Call func(ctx context.Context, tell func(kind, text string)) error
	// Link is told each new link key; see Browser.
	Link     func(key string)
	Position *operators.Position
	Log      *slog.Logger
}

// Browser is a unit whose microphone, loudspeaker and display are a web browser's. The page is a terminal that nobody
// trusts: no identity and no key of the unit is in it. Whoever opens it shows the key of a link that holds once and for a
// quarter of an hour, and gets a token for the one tab; then sound flows by WebRTC between the page and this process,
// where the unit's ends of paths are. One page at a time is connected: the latest.
type Browser struct {
	cfg  BrowserConfig
	door door
	work sync.WaitGroup

	mu   sync.Mutex
	page *page // that is connected, nil without one
	call *browserCall
}

// page is a browser that is connected.
type page struct {
	peer *webrtc.Peer
	// call ends the call that the page has asked for; nil without one.
	call context.CancelFunc
}

// browserCall is what the two ends of one call tell each other.
type browserCall struct {
	ended  context.Context
	hangUp context.CancelFunc
	heard  chan connectors.ADU // what the page's microphone hears
	signal func(connectors.Event) error
	hushes atomic.Uint64 // answers that were interrupted
}

// heardAhead is how much of what the microphone hears waits for the path: 640 ms.
const heardAhead = 32

// NewBrowser makes the unit; Handler serves its page and Run must run.
func NewBrowser(cfg BrowserConfig) (*Browser, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.World.Now == nil {
		return nil, errors.New("a browser unit wants its surroundings")
	}
	b := &Browser{cfg: cfg}
	b.door.world = cfg.World
	return b, nil
}

// wideType is a voice as a browser encodes it.
const wideType = "audio/opus;channels=1"

func (b *Browser) voice() string {
	if b.cfg.Opus {
		return wideType
	}
	return phoneType
}

// Description is what the unit publishes: what it can speak and show, at the node where it can be reached.
func (b *Browser) Description(node operators.Node) operators.Description {
	cost := operators.Cost{CPU: 0.02, Latency: operators.Latency(packetTime), Memory: 4 << 20, Quality: 1}
	return operators.Description{
		Kind: "browser", Name: b.cfg.Name, Summary: "browser " + b.cfg.Name, Node: &node, Position: b.cfg.Position,
		Operators: []operators.Spec{
			{Name: "microphone", Program: "browser/microphone", Out: operators.MustPattern(b.voice()), Cost: cost, Transports: []string{"rtp", "webrtc"}},
			{Name: "speaker", Program: "browser/speaker", In: operators.MustPattern(phoneType), Cost: cost, Transports: []string{"rtp", "webrtc"}},
		},
	}
}

// Register adds the unit's ends to its node's programs.
func (b *Browser) Register(r *operators.Registry) {
	r.Add("browser/microphone", func(_ context.Context, env operators.Env) (operators.Operator, error) {
		return operators.Func(func(ctx context.Context, _ connectors.Reader, out connectors.Writer) error {
			return b.speak(ctx, env, out)
		}), nil
	})
	r.Add("browser/speaker", func(_ context.Context, env operators.Env) (operators.Operator, error) {
		return operators.Func(func(ctx context.Context, in connectors.Reader, _ connectors.Writer) error {
			return b.listen(ctx, env, in)
		}), nil
	})
}

// Run keeps the link's key fresh until ctx ends; then it lets the page go.
func (b *Browser) Run(ctx context.Context) error {
	defer b.work.Wait()
	defer b.leave(nil)
	for {
		key := b.door.renew()
		if b.cfg.Link != nil {
			b.cfg.Link(key)
		}
		select {
		case <-time.After(keyLife):
		case <-b.door.redeemed():
		case <-ctx.Done():
			return nil
		}
	}
}

// connect answers a page's offer; the page before it is let go.
func (b *Browser) connect(ctx context.Context, offer string) (answer string, err error) {
	p := &page{}
	p.peer, answer, err = webrtc.Answer(ctx, webrtc.PeerConfig{
		World: b.cfg.World, At: b.cfg.At, Opus: b.cfg.Opus, Heard: b.heard, Said: func(m []byte) { b.said(p, m) },
	}, offer)
	if err != nil {
		return "", err
	}
	b.leave(p)
	b.work.Go(func() { b.greet(p) })
	return answer, nil
}

// leave puts a page, or none, in the place of the one that is connected.
func (b *Browser) leave(next *page) {
	b.mu.Lock()
	old := b.page
	b.page = next
	var call context.CancelFunc
	if old != nil {
		call, old.call = old.call, nil
	}
	b.mu.Unlock()
	if old != nil {
		b.tellPage(old, "taken", "Another page has taken over.")
		if call != nil {
			call()
		}
		b.work.Go(old.peer.Close)
	}
}

// connectTime bounds how long a page may take to connect.
const connectTime = 20 * time.Second

// greet tells the page how things stand once it is connected, and tidies up when it has gone.
func (b *Browser) greet(p *page) {
	timer := time.NewTimer(connectTime)
	defer timer.Stop()
	select {
	case <-p.peer.Open():
		b.tellPage(p, "ready", b.invitation())
	case <-p.peer.Done():
	case <-timer.C:
		b.cfg.Log.Info("a page did not connect", "within", connectTime)
		p.peer.Close()
	}
	<-p.peer.Done()
	b.mu.Lock()
	mine := b.page == p
	c := b.call
	b.mu.Unlock()
	if mine {
		b.leave(nil)
		if c != nil {
			c.hangUp()
		}
	}
	p.peer.Close()
}

// invitation says what the user can do now.
func (b *Browser) invitation() string {
	if b.cfg.Call != nil {
		return "Press Talk and say what you want to know."
	}
	return fmt.Sprintf("Press Talk, then make a path to browser:%s with ninjactl path create.", b.cfg.Name)
}

// words is a message of the data channel, in both directions.
type words struct {
	Kind string `json:"kind"`
	Text string `json:"text,omitempty"`
}

// maxWords bounds the text of a message in bytes; the page shows it as text and never as markup.
const maxWords = 2000

func (b *Browser) tellPage(p *page, kind, text string) {
	m, err := json.Marshal(words{kind, text[:min(len(text), maxWords)]})
	if err == nil {
		err = p.peer.Tell(string(m))
	}
	if err != nil {
		b.cfg.Log.Debug("a page was not told", "kind", kind, "error", err)
	}
}

// tell tells the page that is connected, if there is one.
func (b *Browser) tell(kind, text string) {
	b.mu.Lock()
	p := b.page
	b.mu.Unlock()
	if p != nil {
		b.tellPage(p, kind, text)
	}
}

// said takes what a page says: that the user wants to talk, or no longer.
func (b *Browser) said(p *page, m []byte) {
	var w words
	if json.Unmarshal(m, &w) != nil {
		return
	}
	switch w.Kind {
	case "talk":
		b.work.Go(func() { b.dial(p) })
	case "stop":
		b.mu.Lock()
		call, mine := p.call, b.page == p
		c := b.call
		b.mu.Unlock()
		if call != nil {
			call()
		}
		if mine && c != nil {
			c.hangUp()
		}
	}
}

// dial makes the call that a page asks for and waits for its end.
func (b *Browser) dial(p *page) {
	if b.cfg.Call == nil {
		b.tellPage(p, "waiting", "The microphone is open. Waiting for a path to browser:"+b.cfg.Name+".")
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), longestCall)
	defer cancel()
	b.mu.Lock()
	busy := p.call != nil || b.page != p
	if !busy {
		p.call = cancel
	}
	b.mu.Unlock()
	if busy {
		return
	}
	b.tellPage(p, "calling", "Making the path ...")
	err := b.cfg.Call(ctx, func(kind, text string) { b.tellPage(p, kind, text) })
	b.mu.Lock()
	p.call = nil
	b.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		b.tellPage(p, "fault", err.Error())
		return
	}
	b.tellPage(p, "ended", b.invitation())
}

// join gives the two ends of one call the same call.
func (b *Browser) join() *browserCall {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.call == nil || b.call.ended.Err() != nil {
		ctx, cancel := context.WithCancel(context.Background())
		b.call = &browserCall{ended: ctx, hangUp: cancel, heard: make(chan connectors.ADU, heardAhead)}
	}
	return b.call
}

// heard takes what the page's microphone hears: the call's end of the path gets it, else nobody. When the path is held
// up the oldest gives way.
func (b *Browser) heard(a connectors.ADU) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.call == nil || b.call.ended.Err() != nil {
		return
	}
	for {
		select {
		case b.call.heard <- a:
			return
		default:
		}
		select {
		case <-b.call.heard:
		default:
		}
	}
}

// speak is the microphone.
func (b *Browser) speak(ctx context.Context, env operators.Env, out connectors.Writer) error {
	c := b.join()
	defer c.hangUp()
	b.tell("listening", "Listening.")
	turn, stop := context.WithCancel(ctx)
	defer stop()
	go speech.Turn(turn, out.Events(), func(e connectors.Event) error { return b.silence(c, e) })
	var zero time.Duration
	for first := true; ; {
		select {
		case a := <-c.heard:
			if first {
				first, zero = false, a.MediaTime
				env.Note("microphone", "open")
			}
			a.MediaTime -= zero
			a.Seq = 0
			if err := out.Write(ctx, a); err != nil {
				return err
			}
		case <-c.ended.Done():
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// silence stops the answer: upstream, in this process, and in the page, which still holds a moment of it.
func (b *Browser) silence(c *browserCall, e connectors.Event) error {
	c.hushes.Add(1)
	b.mu.Lock()
	signal, p := c.signal, b.page
	b.mu.Unlock()
	if p != nil {
		p.peer.Hush()
		b.tellPage(p, "hush", "")
	}
	if signal == nil {
		return nil
	}
	return signal(e)
}

// listen is the loudspeaker.
func (b *Browser) listen(ctx context.Context, env operators.Env, in connectors.Reader) error {
	c := b.join()
	defer c.hangUp()
	b.mu.Lock()
	c.signal = in.Signal
	b.mu.Unlock()
	playing, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(c.ended, stop)()
	law := audio.MuLaw()
	begun, hushes := false, uint64(0)
	for {
		a, err := in.Read(playing)
		if errors.Is(err, io.EOF) || playing.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			b.tell("fault", "The answer has broken off: "+err.Error())
			return err
		}
		if n := c.hushes.Load(); n != hushes { // what comes now is another answer
			begun, hushes = false, n
		}
		if !begun && sounds(audio.Samples(nil, law.Decode(append([]byte(nil), a.Payload...)))) {
			begun = true
			env.Note("first-sample", "the answer begins")
			b.tell("answering", "")
		}
		if err := b.play(playing, a); err != nil && playing.Err() == nil {
			b.cfg.Log.Debug("not played", "error", err)
		}
		if begun && a.Mark&connectors.EndOfUtterance != 0 {
			begun = false
			env.Note("heard", "to the end")
			b.tell("answered", "")
		}
	}
}

// play hands sound to the page; without one nobody hears it.
func (b *Browser) play(ctx context.Context, a connectors.ADU) error {
	b.mu.Lock()
	p := b.page
	b.mu.Unlock()
	if p == nil {
		return nil
	}
	return p.peer.Play(ctx, a)
}
