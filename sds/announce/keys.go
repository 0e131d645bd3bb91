package announce

import (
	"crypto/hpke"
	"crypto/sha256"
	"sync"
)

// sealingKey is one hybrid key that key blocks are sealed to. It is never written anywhere.
type sealingKey struct {
	private hpke.PrivateKey
	public  []byte
	hash    [32]byte
}

// sealingKeys are the present key and, for a while after a rotation, the one before: blocks on their way still open.
type sealingKeys struct {
	mu       sync.RWMutex
	present  *sealingKey
	previous *sealingKey
}

// rotate makes a new present key and keeps the one before until the next rotate or retire.
func (k *sealingKeys) rotate() error {
	private, err := kem().GenerateKey()
	if err != nil {
		return err
	}
	public := private.PublicKey().Bytes()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.previous, k.present = k.present, &sealingKey{private: private, public: public, hash: sha256.Sum256(public)}
	return nil
}

// retire forgets the previous key: what was recorded and sealed to it stays sealed for ever.
func (k *sealingKeys) retire() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.previous = nil
}

func (k *sealingKeys) now() *sealingKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.present
}

// byID finds the key whose hash begins with id; nil when it is neither of the two.
func (k *sealingKeys) byID(id [keyIDSize]byte) *sealingKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	for _, key := range []*sealingKey{k.present, k.previous} {
		if key != nil && [keyIDSize]byte(key.hash[:]) == id {
			return key
		}
	}
	return nil
}
