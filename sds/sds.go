// Package sds is the service discovery service (ninja-architecture, 6.1): a server that keeps what services say of
// themselves as soft state and answers the queries of those entitled to find it, and the client of such a server.
//
// A program that looks for services needs an identity, the server's address and a capability:
//
//	client, err := sds.Dial(sds.ClientConfig{Identity: id, World: world.Real(), Address: "10.0.0.5:7002", Capability: manager.Capability})
//	defer client.Close()
//	found, err := client.Query(ctx, sds.Query{Template: []byte(`<service xmlns="urn:ninja:service:1" kind="printer"/>`)})
//
// What a template says is documented at index.Template, XPath at index.XPath. Everything found carries its owner's
// signature, which the client has checked before it hands it out.
//
// A server is a Server between an announce.Receiver, which puts into it what it hears, and a gRPC server. What its
// asker may not find is never touched by a query: it belongs to another visibility class (see RATIONALE.md).
package sds

import (
	"time"

	"ninja/ca"
)

// Query is what is looked for. The zero Query asks for everything that the asker may find.
type Query struct {
	// Template is a partial document (see index.Template); nil asks for nothing.
	Template []byte
	// XPath is an expression of the supported subset (see index.XPath); "" asks for nothing. Both must match when both
	// are given. Namespaces are the prefixes that it uses.
	XPath      string
	Namespaces map[string]string
	// By asks for services of one owner; "" for anyone's.
	By ca.ID
	// Limit is how many are wanted; 0 is the server's most (MaxResults).
	Limit int
	// OrderBy is the name of a number that services refresh (load, queue) or a path within the document
	// (node/@cores, taken from the root element); "" is the order of service ids. What lacks it comes last.
	OrderBy    string
	Descending bool
	// Steps are the named numbers whose changes a watch tells, and by how much each must have moved since it was told
	// last; 0 is any change. Queries ignore it.
	Steps map[string]float64
	// Select are paths, as in OrderBy, whose values are wanted instead of the description: less to carry. Found.Values
	// has them; they are the server's word, because what the owner signed is the whole description.
	Select []string
	// After is the Cursor of a Page of the same question by the same principal, to go on behind it; nil begins.
	After []byte
}

// Page is a part of an answer.
type Page struct {
	Found []Found
	// More says that the limit cut the answer; Cursor asks for the rest. It stays good while services come, change and
	// go, until the server is started again: everything that is there all the time is told once.
	More   bool
	Cursor []byte
}

// Found is a service that matches, verified by the client unless Values were selected.
type Found struct {
	ID          string // OWNER-ID#name
	Owner       ca.ID
	Name        string
	Version     uint64
	Description []byte             // the exact bytes that the owner signed
	Numbers     map[string]float64 // vouched for by the server, not signed by the owner
	Age         time.Duration      // since the server last heard of it
	Values      [][]string         // of Query.Select, one for each path; then Description is nil and nothing is signed
}

// WatchEvent is what happened to a watched query.
type WatchEvent struct {
	Kind  WatchKind
	Found Found // of Leave only ID, Owner and Name; of Synced nothing
}

// WatchKind is the kind of a watch event.
type WatchKind int

// The kinds. What became visible enters and what became hidden leaves.
const (
	Enter WatchKind = iota + 1
	Change
	Leave
	Synced // all that matched when the watch began, or was resumed, has been told
)

// String names the kind.
func (k WatchKind) String() string {
	switch k {
	case Enter:
		return "enter"
	case Change:
		return "change"
	case Leave:
		return "leave"
	case Synced:
		return "synced"
	}
	return "unknown"
}

// Bounds.
const (
	// MaxResults is the largest limit of a query.
	MaxResults = 10_000
	// maxAnswer is how many bytes of found services travel in one message.
	maxAnswer = 256 << 10
	// maxMessage is what either end accepts in one message. A unary answer is cut at a message, a stream is not.
	maxMessage = 4 << 20
)
