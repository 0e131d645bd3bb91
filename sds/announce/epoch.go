package announce

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"time"

	"ninja/ca"
	"ninja/ca/seal"
)

const (
	epochContext = "ninja epoch 1"
	epochInfo    = "ninja key block 1"
	epochKeys    = "ninja epoch keys 1"

	secretSize = 32
	macSize    = 16
	keyIDSize  = 8
)

// The suite of key blocks (RFC 9180, draft-ietf-hpke-pq): post-quantum and classical together.
func kem() hpke.KEM   { return hpke.MLKEM768X25519() }
func kdf() hpke.KDF   { return hpke.HKDFSHA256() }
func aead() hpke.AEAD { return hpke.AES256GCM() }

// epoch is what one sender and one incarnation of one server share until it expires: it covers all the sender's services.
type epoch struct {
	handle    uint64
	expires   time.Time // whole milliseconds
	secret    [secretSize]byte
	sender    ed25519.PublicKey
	toServer  []byte
	toService []byte
	mac       []byte

	hash hash.Hash // HMAC under mac, once it is used
	sum  [sha256.Size]byte
}

// binding is what an epoch belongs to.
type binding struct {
	server      ca.ID
	incarnation uint64
}

func (b binding) append(m []byte) []byte {
	m = appendString(m, string(b.server))
	return binary.BigEndian.AppendUint64(m, b.incarnation)
}

// newEpoch derives the keys of an epoch. Sender, server, incarnation and expiry go into the derivation, so that a
// secret taken elsewhere makes other keys; the handle is derived too, so that nobody can occupy another's.
func newEpoch(to binding, sender ed25519.PublicKey, secret [secretSize]byte, expires time.Time) (*epoch, error) {
	info := to.append([]byte(epochKeys))
	info = append(info, sender...)
	info = appendMillis(info, expires)
	all, err := hkdf.Key(sha256.New, secret[:], nil, string(info), 8+3*seal.KeySize)
	if err != nil {
		return nil, err
	}
	return &epoch{
		handle: binary.BigEndian.Uint64(all), expires: expires, secret: secret, sender: sender,
		toServer:  all[8 : 8+seal.KeySize],
		toService: all[8+seal.KeySize : 8+2*seal.KeySize],
		mac:       all[8+2*seal.KeySize:],
	}, nil
}

// keyBlock is the datagram that brings an epoch to the server. Its size is always the same.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+---------------+---------------+-------------------------------+
//	|  version = 1  |   kind = 3    |           zero                |
//	+---------------+---------------+-------------------------------+
//	|     first 64 bits of the hash of the sealing key              |
//	+---------------------------------------------------------------+
//	|     handle of the epoch (64)                                  |
//	+---------------------------------------------------------------+
//	|     end of the epoch, ms (64)                                 |
//	+---------------------------------------------------------------+
//	|     handle of the epoch that vouches (64)                     |
//	+---------------------------------------------------------------+
//	|     HMAC-SHA-256 under that epoch, cut to 128 bits            |
//	+---------------------------------------------------------------+
//	|     HPKE encapsulated key (1120 bytes)                        |
//	+===============================================================+
//	|     secret (256)                                              |  sealed
//	|     Ed25519 key of the sender (256)                           |
//	|     hash of the sender's certificate chain (256)              |
//	|     Ed25519 signature of the sender (512)                     |
//	+---------------------------------------------------------------+
//	|     tag (128)                                                 |
//	+---------------------------------------------------------------+
type keyBlock struct {
	keyID   [keyIDSize]byte
	handle  uint64
	expires time.Time
	vouch   uint64
	mac     [macSize]byte
	sealed  []byte
}

const (
	macStart     = prefixSize + keyIDSize + 8 + 8 + 8
	macEnd       = macStart + macSize
	blockInside  = secretSize + ed25519.PublicKeySize + sha256.Size + ed25519.SignatureSize
	keyBlockSize = macEnd + 1120 + blockInside + 16
)

func parseKeyBlock(d []byte) (keyBlock, error) {
	if kindOf(d) != kindKeyBlock || len(d) != keyBlockSize {
		return keyBlock{}, refuse(ReasonMalformed, "not a key block")
	}
	r := reader{b: d[prefixSize:]}
	var k keyBlock
	copy(k.keyID[:], r.take(keyIDSize))
	k.handle, k.expires, k.vouch = r.uint64(), r.millis(), r.uint64()
	copy(k.mac[:], r.take(macSize))
	k.sealed = r.b
	if r.bad {
		return keyBlock{}, refuse(ReasonMalformed, "a key block with an impossible time")
	}
	return k, nil
}

// blockInfo is the info of HPKE. The sender is not in it, because the server must know it before it can open the
// block and the block must not show it: the signature inside and the derivation of the keys bind the sender.
func blockInfo(to binding, keyHash [32]byte, handle uint64, expires time.Time) []byte {
	m := to.append([]byte(epochInfo))
	m = append(m, keyHash[:]...)
	m = binary.BigEndian.AppendUint64(m, handle)
	return appendMillis(m, expires)
}

// blockSigned is what the sender signs inside the block.
func blockSigned(info []byte, secret [secretSize]byte, sender ed25519.PublicKey, chain [32]byte) []byte {
	m := append([]byte(nil), info...)
	m = append(m, secret[:]...)
	m = append(m, sender...)
	return append(m, chain[:]...)
}

// sealKeyBlock makes the key block of e for the server's sealing key. vouch is the sender's present epoch with the
// server, e itself when it is the first: a server that knows the epoch sees at little cost that the block is genuine.
func sealKeyBlock(id *ca.Identity, e *epoch, to binding, key []byte, vouch *epoch) ([]byte, error) {
	public, err := kem().NewPublicKey(key)
	if err != nil {
		return nil, refuse(ReasonMalformed, "sealing key of %s: %v", to.server, err)
	}
	keyHash := sha256.Sum256(key)
	info := blockInfo(to, keyHash, e.handle, e.expires)
	chain := sha256.Sum256(appendChain(nil, id.Chain()))
	inside := append(e.secret[:], id.Public()...)
	inside = append(inside, chain[:]...)
	inside = append(inside, id.Sign(epochContext, blockSigned(info, e.secret, id.Public(), chain))...)
	sealed, err := hpke.Seal(public, kdf(), aead(), info, inside)
	if err != nil {
		return nil, err
	}
	d := appendPrefix(make([]byte, 0, keyBlockSize), kindKeyBlock)
	d = append(d, keyHash[:keyIDSize]...)
	d = binary.BigEndian.AppendUint64(d, e.handle)
	d = appendMillis(d, e.expires)
	d = binary.BigEndian.AppendUint64(d, vouch.handle)
	d = append(d, make([]byte, macSize)...)
	d = append(d, sealed...)
	copy(d[macStart:macEnd], vouch.vouchFor(d))
	return d, nil
}

// vouchFor is the MAC of a key block under e. It is for one goroutine at a time, and good until the next call.
func (e *epoch) vouchFor(d []byte) []byte {
	if e.hash == nil {
		e.hash = hmac.New(sha256.New, e.mac)
	}
	e.hash.Reset()
	e.hash.Write(d[:macStart])
	e.hash.Write(d[macEnd:])
	return e.hash.Sum(e.sum[:0])[:macSize]
}

// openKeyBlock opens a key block with the private half of the sealing key and checks the signature inside. Who has the
// sender's key is not known before the chain with the returned hash is.
func openKeyBlock(k keyBlock, to binding, private hpke.PrivateKey, keyHash [32]byte) (*epoch, [32]byte, error) {
	info := blockInfo(to, keyHash, k.handle, k.expires)
	inside, err := hpke.Open(private, kdf(), aead(), info, k.sealed)
	if err != nil || len(inside) != blockInside {
		return nil, [32]byte{}, refuse(ReasonSignature, "a key block that was not sealed for this server and incarnation")
	}
	r := reader{b: inside}
	secret := r.hash()
	sender := ed25519.PublicKey(r.take(ed25519.PublicKeySize))
	chain := r.hash()
	if !ca.VerifySignature(sender, epochContext, blockSigned(info, secret, sender, chain), r.b) {
		return nil, chain, refuse(ReasonSignature, "a key block without its sender's signature")
	}
	e, err := newEpoch(to, sender, secret, k.expires)
	if err == nil && e.handle != k.handle {
		err = refuse(ReasonSignature, "a key block whose handle is not its epoch's")
	}
	return e, chain, err
}
