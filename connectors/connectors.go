// Package connectors says what flows along a path, and the small interface that moves it from one operator to the next
// (ninja-architecture, section 7: "a connector is a channel through which operators can pass application data units").
//
// An ADU of a Type is written to the Writer of a hop and read from its Reader. Data flows one way; events (flush, fault)
// travel the other way over the same hop. A Transport makes hops: the receiving end listens and gets an address, the
// sending end dials it. Which transport a hop uses is the planner's choice, not the operator's.
package connectors

import (
	"context"
	"errors"
	"time"
)

// ADU is an application data unit: the unit that operators see, whatever packets carry it.
type ADU struct {
	// Payload is owned by whoever holds the ADU: Write takes it, Read gives it.
	Payload []byte
	// MediaTime is the position of the payload's first sample in its stream; zero for data without time.
	MediaTime time.Duration
	// Seq counts the ADUs of a stream from 1. The sending end of a hop sets it when it is 0.
	Seq uint64
	// Mark says what ends with this ADU.
	Mark Mark
	// Stamp says how old the ADU is; nil on most.
	Stamp *Stamp
}

// Stamp is how long an ADU, or what it was made of, has been under way. Every fiftieth has one. It is a sum of durations,
// each measured by one clock, and of estimates of the links between: no two clocks are compared.
type Stamp struct {
	// Age is what it was when it arrived here, with the link that it came by.
	Age time.Duration
	// Arrived is when that was. What it waits at the receiving end, a playout too, is this node's.
	Arrived time.Time
}

// Now is the age at the time.
func (s *Stamp) Now(now time.Time) time.Duration { return s.Age + max(now.Sub(s.Arrived), 0) }

// MaxAge bounds what is taken from another node as an age.
const MaxAge = time.Hour

// Received is the stamp of what arrives with an age, by a link with the delay; nil when the age is none.
func Received(age, link time.Duration, now time.Time) *Stamp {
	if age < 0 || age > MaxAge {
		return nil
	}
	return &Stamp{Age: age + link, Arrived: now}
}

// Mark says what ends with an ADU. The values are bits.
type Mark uint8

// Marks.
const (
	// EndOfUtterance ends a stretch of speech or a sentence.
	EndOfUtterance Mark = 1 << iota
	// EndOfFrame ends a picture.
	EndOfFrame
	// EndOfDocument ends a document, a query or an answer.
	EndOfDocument
)

// Event is what travels against the data.
type Event struct {
	Kind EventKind
	// Text says why, for a person; at most 1 KiB.
	Text string
}

// EventKind tells events apart.
type EventKind uint8

// Events.
const (
	// Flush asks those upstream to drop what they have not delivered yet: the user has begun to speak. Each hop that
	// it passes drops what it holds itself.
	Flush EventKind = 1
	// Fault tells those upstream that a hop below them failed.
	Fault EventKind = 2
)

// Writer is the sending end of a hop. Write and Close are called by one goroutine.
type Writer interface {
	// Write hands an ADU over and takes its payload; it blocks while the hop is full, until ctx ends. After an error
	// the hop is broken and only Close is left.
	Write(ctx context.Context, a ADU) error
	// Events delivers what the receiving end signals. It is closed when the hop ends. Events nobody takes are dropped,
	// oldest first, behind a bound.
	Events() <-chan Event
	// Close sends what is queued, then the end of the stream, and releases the hop; at most the hop's linger time.
	// It may be called again.
	Close() error
}

// Reader is the receiving end of a hop. Read is called by one goroutine.
type Reader interface {
	// Read returns the next ADU, whose payload the caller now owns. io.EOF is the end of the stream; when ctx ends its
	// error is returned and Read may be called again; any other error is a broken hop.
	Read(ctx context.Context) (ADU, error)
	// Signal sends an event upstream. It does not block; it may be called by any goroutine.
	Signal(e Event) error
	// Close releases the hop; the sending end's next Write fails with ErrClosed. It may be called again.
	Close() error
}

// ErrClosed is returned by a hop that either end has closed.
var ErrClosed = errors.New("the hop is closed")

// Aborter is implemented by the Writers whose hop can be broken instead of ended; all of this module's can. A stage that
// failed aborts its outgoing hop where one that finished closes it: otherwise the stages below would take half an answer
// for a whole one.
type Aborter interface {
	// Abort breaks the hop and releases it: the receiving end reads some of what was written before, and then never
	// io.EOF but an error, which wraps ErrAborted and quotes the cause (its first 512 bytes go to the peer) unless the
	// farewell is lost. It takes the place of Close, is called by the goroutine that writes, and waits a second at most
	// for the peer to know. After Close it does nothing.
	Abort(cause error)
}

// ErrAborted is wrapped by what Read returns when the sending end has failed: what was read so far is not the whole
// stream.
var ErrAborted = errors.New("the sending end has failed")

// ErrRefused is wrapped by the error of a Dial that the receiving end answered with a refusal: the stream is not known
// there, or not for this epoch, type or peer. Dialing again does not help.
var ErrRefused = errors.New("the receiving end refused the hop")

// MaxPayload is the greatest payload of an ADU in bytes.
const MaxPayload = 1 << 20

// Hop says what a hop is for; both ends are given the same.
type Hop struct {
	// Stream names the hop: 16 random bytes chosen by the receiving end, unguessable. Zero lets Listen draw one, and
	// lets Dial take the one of the address.
	Stream StreamID
	// Path and Name identify the hop in logs and faults, as in "path 7f3a" and "resample->recognise".
	Path, Name string
	// Epoch is the epoch of the path that the hop belongs to; older epochs are refused.
	Epoch uint32
	// Type is the ground type of what flows.
	Type Type
	// Peer is the SPIFFE ID that the other end must have; empty on transports that stay inside the process.
	Peer string
	// Exit says, at the receiving end, that what flows is played to a listener from here on: the place of the one playout
	// buffer of a media segment.
	Exit bool
	// Playout is the longest that what flows may be held there, the part of the path's latency budget that is left for
	// it; zero leaves it to the node.
	Playout time.Duration
}

// StreamID names one hop on the node that receives it.
type StreamID [16]byte

// Transport makes the hops of one scheme.
type Transport interface {
	// Scheme is the name that addresses begin with, such as "tcp".
	Scheme() string
	// Listen prepares the receiving end of a hop.
	Listen(ctx context.Context, h Hop) (Pending, error)
	// Dial connects the sending end to the address that the receiving end's Pending gave.
	Dial(ctx context.Context, address string, h Hop) (Writer, error)
}

// Pending is a receiving end that waits for its sender.
type Pending interface {
	// Address is what the sender dials: SCHEME://HOST:PORT/STREAM in lower-case hexadecimal.
	Address() string
	// Accept waits for the sender.
	Accept(ctx context.Context) (Reader, error)
	// Close gives up waiting. It may be called again, and after Accept, where it does nothing.
	Close() error
}

// Measured is implemented by ends of hops that measure themselves.
type Measured interface {
	Stats() Stats
}

// Stats is what an end of a hop has measured since it was made.
type Stats struct {
	ADUs, Bytes uint64
	// Lost counts ADUs known to be missing, Late those that came after their turn and were dropped.
	Lost, Late uint64
	// Link is the estimate of the one-way delay of the link: half the smoothed round trip; zero when not known.
	Link time.Duration
	// Jitter is the smoothed interarrival jitter (RFC 3550, 6.4.1); zero when not known.
	Jitter time.Duration
}
