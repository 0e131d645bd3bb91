package webrtc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/logging"
	"github.com/pion/transport/v4"
	pion "github.com/pion/webrtc/v4"
)

// Payload types: the static ones, and what browsers use for Opus.
const (
	ptPCMU = 0
	ptPCMA = 8
	ptOpus = 111
)

// codecs are the kinds of sound, by preference.
func codecs() []pion.RTPCodecParameters {
	codec := func(pt pion.PayloadType, mime string, rate uint32, channels uint16, fmtp string) pion.RTPCodecParameters {
		return pion.RTPCodecParameters{PayloadType: pt, RTPCodecCapability: pion.RTPCodecCapability{
			MimeType: mime, ClockRate: rate, Channels: channels, SDPFmtpLine: fmtp}}
	}
	return []pion.RTPCodecParameters{
		codec(ptOpus, pion.MimeTypeOpus, 48000, 2, "minptime=10;useinbandfec=1"),
		codec(ptPCMU, pion.MimeTypePCMU, 8000, 0, ""),
		codec(ptPCMA, pion.MimeTypePCMA, 8000, 0, ""),
	}
}

// engine is pion's settings for an end that may be reached at one address, or at all of the machine's when it is the
// unspecified one.
func engine(at netip.Addr, n transport.Net) pion.SettingEngine {
	var s pion.SettingEngine
	s.LoggerFactory = &logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled}
	s.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	s.SetNetworkTypes([]pion.NetworkType{pion.NetworkTypeUDP4, pion.NetworkTypeUDP6})
	s.SetIncludeLoopbackCandidate(at.IsLoopback())
	if !at.IsUnspecified() {
		s.SetIPFilter(func(ip net.IP) bool {
			a, ok := netip.AddrFromSlice(ip)
			return ok && a.Unmap() == at.Unmap()
		})
	}
	s.SetICETimeouts(5*time.Second, 20*time.Second, 2*time.Second)
	s.SetDTLSConnectContextMaker(func() (context.Context, func()) {
		return context.WithTimeout(context.Background(), connectTime)
	})
	if n != nil {
		s.SetNet(n)
	}
	return s
}

// link is one end of a hop's ICE and DTLS. It comes up in the background: up is closed when it has, or when it will not.
type link struct {
	api      *pion.API
	gatherer *pion.ICEGatherer
	ice      *pion.ICETransport
	dtls     *pion.DTLSTransport
	local    params

	taken  atomic.Bool // by a reader or a writer
	up     chan struct{}
	failed error // read after up
	ctx    context.Context
	stop   context.CancelFunc
	work   sync.WaitGroup
	once   sync.Once
}

// newLink gathers the addresses of this end.
func newLink(ctx context.Context, at netip.Addr, f flow, n transport.Net) (*link, error) {
	media := new(pion.MediaEngine)
	if f.sound {
		for _, c := range codecs() {
			if err := media.RegisterCodec(c, pion.RTPCodecTypeAudio); err != nil {
				return nil, err
			}
		}
	}
	s := engine(at, n)
	s.DetachDataChannels()
	s.EnableDataChannelBlockWrite(true)
	l := &link{api: pion.NewAPI(pion.WithMediaEngine(media), pion.WithSettingEngine(s)), up: make(chan struct{})}
	var err error
	if l.gatherer, err = l.api.NewICEGatherer(pion.ICEGatherOptions{}); err != nil {
		return nil, err
	}
	l.ctx, l.stop = context.WithTimeout(context.Background(), connectTime)
	l.ice = l.api.NewICETransport(l.gatherer)
	if l.dtls, err = l.api.NewDTLSTransport(l.ice, nil); err == nil {
		err = l.gather(ctx)
	}
	if err == nil {
		l.local, err = localParams(l.gatherer, l.dtls)
	}
	if err != nil {
		l.close()
		return nil, fmt.Errorf("gather addresses: %w", err)
	}
	return l, nil
}

func (l *link) gather(ctx context.Context) error {
	done := make(chan struct{})
	var once sync.Once
	l.gatherer.OnLocalCandidate(func(c *pion.ICECandidate) {
		if c == nil {
			once.Do(func() { close(done) })
		}
	})
	if err := l.gatherer.Gather(); err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-l.ctx.Done():
		return l.ctx.Err()
	}
}

// start brings the link up in the background, then calls open. The end that dials controls ICE and is the DTLS client.
func (l *link) start(remote params, dials bool, open func() error) {
	l.taken.Store(true)
	l.work.Go(func() {
		defer close(l.up)
		if err := l.connect(remote, dials, open); err != nil {
			l.failed = fmt.Errorf("connect by WebRTC to %v: %w", remote.candidates, err)
		}
	})
}

func (l *link) connect(remote params, dials bool, open func() error) error {
	iceRole, peerRole := pion.ICERoleControlled, pion.DTLSRoleClient
	if dials {
		iceRole, peerRole = pion.ICERoleControlling, pion.DTLSRoleServer
	}
	if err := l.ice.SetRemoteCandidates(remote.remoteCandidates()); err != nil {
		return err
	}
	if err := l.ice.StartContext(l.ctx, nil, remote.ice(), &iceRole); err != nil {
		return err
	}
	if err := l.dtls.StartContext(l.ctx, remote.dtls(peerRole)); err != nil {
		return err
	}
	return open()
}

// await waits until the link is up; it must have been started.
func (l *link) await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-l.up:
		return l.failed
	default:
	}
	select {
	case <-l.up:
		return l.failed
	case <-ctx.Done():
		return ctx.Err()
	case <-done:
		return errDone
	}
}

// errDone says that the hop's session ended first.
var errDone = errors.New("the session has ended")

// close releases the link and waits for its goroutine. It may be called again.
func (l *link) close() {
	l.once.Do(func() {
		l.stop()
		if l.dtls != nil {
			l.dtls.Stop()
		}
		l.ice.GracefulStop()
		l.gatherer.GracefulClose()
		l.work.Wait()
	})
}
