// Package capability is a stand-in until the room of that name is merged.
package capability

import (
	"crypto/ed25519"
	"time"

	"ninja/ca"
)

type Operations uint8

const (
	Find Operations = 1 << iota
	Use
	ListenFrom
	SendTo
)

type Who string

const Everyone Who = "everyone"

type Entry struct {
	Who Who
	Ops Operations
}
type ACL struct {
	Service string
	Version uint64
	Entries []Entry
}
type Claims struct {
	Principal ca.ID
	Grants    []Who
	Ops       Operations
	Expires   time.Time
	Holder    ed25519.PublicKey
	Templates [][]byte
	Path      string
}
