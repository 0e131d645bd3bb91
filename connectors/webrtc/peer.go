package webrtc

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/interceptor"
	pionrtp "github.com/pion/rtp"
	pion "github.com/pion/webrtc/v4"

	"ninja/connectors"
	"ninja/connectors/rtp"
	"ninja/internal/world"
)

// Bounds of what a browser says.
const (
	// MaxOffer is the greatest session description, MaxMessage the greatest message of its data channel, in bytes.
	MaxOffer   = 64 << 10
	MaxMessage = 4 << 10
	// telephone is the kind of sound that flows to the browser, and from it when nothing else is said.
	telephone = "audio/PCMU;channels=1;rate=8000"
	wide      = "audio/opus;channels=1"
	// packetTime is how long a packet towards a browser lasts.
	packetTime = 20 * time.Millisecond
)

// PeerConfig makes a Peer.
type PeerConfig struct {
	// World is required.
	World world.World
	// At is the address that the browser reaches this process at; the unspecified address offers all of the machine's.
	At netip.Addr
	// Opus has the browser send its voice as audio/opus;channels=1 instead of audio/PCMU;channels=1;rate=8000.
	Opus bool
	// Heard takes what the browser's microphone hears, in order, 20 ms at a time; it must not block. Media times count
	// from the first.
	Heard func(connectors.ADU)
	// Said takes the messages of the browser's data channel; it must not block.
	Said func([]byte)
}

// Peer is the end of a connection whose other end is a browser's RTCPeerConnection: a track of sound each way and one
// reliable data channel that the browser opens. It is not a hop: there is no identity at the other end. Who may connect
// is decided by whoever hands Answer the offer.
type Peer struct {
	cfg   PeerConfig
	conn  *pion.PeerConnection
	local *pion.TrackLocalStaticRTP
	done  chan struct{}
	open  chan struct{} // closed when the data channel is
	once  sync.Once
	ended sync.Once
	lost  atomic.Uint64

	mu      sync.Mutex
	channel *pion.DataChannel
	pacer   *rtp.Pacer
	base    uint32 // first timestamp
	sent    uint16 // sequence number of the next packet
	flushes uint64
	flushed chan struct{}
	format  rtp.Format
}

// Answer takes a browser's offer and returns the peer and the answer, which holds this end's addresses; the connection
// comes up in the background. Done tells of its end.
func Answer(ctx context.Context, cfg PeerConfig, offer string) (*Peer, string, error) {
	if len(offer) > MaxOffer {
		return nil, "", fmt.Errorf("an offer of %d bytes: at most %d are allowed", len(offer), MaxOffer)
	}
	p, err := newPeer(cfg)
	if err != nil {
		return nil, "", err
	}
	answer, err := p.answer(ctx, offer)
	if err != nil {
		p.Close()
		return nil, "", fmt.Errorf("answer a browser: %w", err)
	}
	return p, answer, nil
}

func newPeer(cfg PeerConfig) (*Peer, error) {
	f, err := rtp.FormatOf(connectors.MustType(telephone))
	if err != nil {
		return nil, err
	}
	media := new(pion.MediaEngine)
	for _, c := range codecs() { // a browser sends by the first that is answered
		if c.MimeType == pion.MimeTypePCMU || c.MimeType == pion.MimeTypeOpus && cfg.Opus {
			if err := media.RegisterCodec(c, pion.RTPCodecTypeAudio); err != nil {
				return nil, err
			}
		}
	}
	reports := new(interceptor.Registry)
	if err := pion.ConfigureRTCPReports(reports); err != nil {
		return nil, err
	}
	s := engine(cfg.At, nil)
	// ICE lite (RFC 8445, 2.5): this end only answers checks, so that no page can have it send any to addresses that the
	// page names.
	s.SetLite(true)
	s.SetSCTPMaxMessageSize(MaxMessage)
	api := pion.NewAPI(pion.WithMediaEngine(media), pion.WithInterceptorRegistry(reports), pion.WithSettingEngine(s))
	conn, err := api.NewPeerConnection(pion.Configuration{})
	if err != nil {
		return nil, err
	}
	random := cfg.World.Uint64()
	p := &Peer{
		cfg: cfg, conn: conn, done: make(chan struct{}), open: make(chan struct{}), flushed: make(chan struct{}, 1),
		pacer: rtp.NewPacer(f), format: f, base: uint32(random), sent: uint16(random >> 32),
	}
	if p.local, err = pion.NewTrackLocalStaticRTP(codecOf(pion.MimeTypePCMU), "answer", "ninja"); err == nil {
		_, err = conn.AddTrack(p.local)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return p, nil
}

func codecOf(mime string) pion.RTPCodecCapability {
	for _, c := range codecs() {
		if c.MimeType == mime {
			return c.RTPCodecCapability
		}
	}
	return pion.RTPCodecCapability{}
}

func (p *Peer) answer(ctx context.Context, offer string) (string, error) {
	p.conn.OnConnectionStateChange(func(s pion.PeerConnectionState) {
		if s == pion.PeerConnectionStateFailed || s == pion.PeerConnectionStateClosed {
			p.end()
		}
	})
	p.conn.OnTrack(func(t *pion.TrackRemote, _ *pion.RTPReceiver) { p.hear(t) })
	p.conn.OnDataChannel(p.take)
	if err := p.conn.SetRemoteDescription(pion.SessionDescription{Type: pion.SDPTypeOffer, SDP: offer}); err != nil {
		return "", err
	}
	gathered := pion.GatheringCompletePromise(p.conn)
	answer, err := p.conn.CreateAnswer(nil)
	if err != nil {
		return "", err
	}
	if err := p.conn.SetLocalDescription(answer); err != nil {
		return "", err
	}
	select {
	case <-gathered:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	return p.conn.LocalDescription().SDP, nil
}

// take takes the first data channel that the browser opens.
func (p *Peer) take(c *pion.DataChannel) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.channel != nil {
		return
	}
	p.channel = c
	c.OnMessage(func(m pion.DataChannelMessage) {
		if p.cfg.Said != nil && len(m.Data) <= MaxMessage {
			p.cfg.Said(m.Data)
		}
	})
	var once sync.Once
	c.OnOpen(func() { once.Do(func() { close(p.open) }) })
	c.OnClose(p.end)
}

// hear reads the browser's microphone until the connection ends, on pion's goroutine.
func (p *Peer) hear(t *pion.TrackRemote) {
	typ, pt := telephone, uint8(ptPCMU)
	if p.cfg.Opus {
		typ, pt = wide, ptOpus
	}
	f, err := rtp.FormatOf(connectors.MustType(typ))
	if err != nil {
		return
	}
	buffer := rtp.NewBuffer(f, 40*time.Millisecond)
	var place *placer
	for {
		packet, _, err := t.ReadRTP()
		if err != nil {
			return
		}
		if packet.PayloadType != pt {
			continue
		}
		if place == nil {
			place = &placer{sequence: packet.SequenceNumber, timestamp: packet.Timestamp}
		}
		position, media, ok := place.place(packet.SequenceNumber, packet.Timestamp)
		if !ok {
			continue
		}
		now := time.Now()
		buffer.Put(rtp.Packet{Position: position, Time: media, Talkspurt: packet.Marker, Payload: packet.Payload}, now)
		for {
			a, v, _ := buffer.Take(now)
			if v != rtp.Deliver {
				break
			}
			if p.cfg.Heard != nil {
				p.cfg.Heard(a)
			}
		}
	}
}

// Play sends sound to the browser at the media's own pace, at most 60 ms ahead of it, in packets of 20 ms. It blocks
// until the last has left, or a Hush has dropped the rest. One goroutine calls it.
func (p *Peer) Play(ctx context.Context, a connectors.ADU) error {
	p.mu.Lock()
	at, pause := p.pacer.Place(time.Now(), a.MediaTime)
	flushes := p.flushes
	p.mu.Unlock()
	most := int(p.format.Samples(packetTime))
	for rest := a.Payload; len(rest) > 0; {
		part := rest[:min(len(rest), most)]
		rest = rest[len(part):]
		if dropped, err := p.send(ctx, at, pause, part, flushes); dropped || err != nil {
			return err
		}
		at, pause = at+int64(len(part)), false
	}
	return nil
}

func (p *Peer) send(ctx context.Context, at int64, pause bool, payload []byte, flushes uint64) (dropped bool, err error) {
	for {
		p.mu.Lock()
		if p.flushes != flushes {
			p.mu.Unlock()
			return true, nil
		}
		wait := p.pacer.Wait(time.Now(), at)
		if wait == 0 {
			defer p.mu.Unlock()
			err := p.local.WriteRTP(&pionrtp.Packet{Header: pionrtp.Header{
				Version: 2, Marker: pause, SequenceNumber: p.sent, Timestamp: p.base + uint32(at),
			}, Payload: payload})
			if err != nil {
				p.lost.Add(1) // as if the network had lost it
			}
			p.sent++
			p.pacer.Sent(at, int64(len(payload)))
			return false, nil
		}
		p.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-p.flushed:
		case <-p.done:
			err = connectors.ErrClosed
		case <-ctx.Done():
			err = ctx.Err()
		}
		timer.Stop()
		if err != nil {
			return false, err
		}
	}
}

// Hush drops what Play has not sent yet.
func (p *Peer) Hush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flushes++
	p.pacer.Flush()
	select {
	case p.flushed <- struct{}{}:
	default:
	}
}

// errBehind says that the browser does not take what it is told.
var errBehind = errors.New("the browser does not keep up with its messages")

// Tell sends a text message on the data channel. It does not block; before the channel is open, and when more than
// 64 KiB wait already, it fails.
func (p *Peer) Tell(text string) error {
	p.mu.Lock()
	c := p.channel
	p.mu.Unlock()
	select {
	case <-p.open:
	default:
		return connectors.ErrClosed
	}
	if c.BufferedAmount() > 64<<10 {
		return errBehind
	}
	return c.SendText(text)
}

// Open is closed when the data channel is open.
func (p *Peer) Open() <-chan struct{} { return p.open }

// Done is closed when the connection has ended.
func (p *Peer) Done() <-chan struct{} { return p.done }

func (p *Peer) end() { p.ended.Do(func() { close(p.done) }) }

// Close ends the connection and waits for what it had running. It may be called again.
func (p *Peer) Close() {
	p.once.Do(func() {
		p.end()
		p.conn.GracefulClose()
	})
}
