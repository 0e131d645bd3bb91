package summary

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// TokenLife is how long a token is good for; afterwards the same grant has another, so that what was collected says
// nothing for long.
const TokenLife = 24 * time.Hour

// Token is what a summary tells of services that a grant opens and that not everyone may find: that there are some, to
// whoever has the secret, and nothing to anyone else. The secret is that of the capability manager whose ACLs name the
// grant, or for a name of another domain what the two managers share. They give it to SDS servers of their domains
// alone, which present the tokens of the grants that a verified capability names.
func Token(secret []byte, grant string, at time.Time) Term {
	return token(secret, grant, at.Unix()/int64(TokenLife.Seconds()))
}

func token(secret []byte, grant string, epoch int64) Term {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte("ninja summary token 1\x00"))
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(epoch)))
	h.Write([]byte(grant))
	return Term(binary.BigEndian.Uint64(h.Sum(nil)) & termMask)
}

// Tokens are those of all the grants, as an asker presents them: around the change of epochs, both.
func Tokens(secret []byte, grants []string, at time.Time) (out []Term) {
	life := int64(TokenLife.Seconds())
	now := at.Unix() / life
	epochs := []int64{now}
	const overlap = 300 // seconds in which summaries catch up, and in which clocks may differ
	switch into := at.Unix() % life; {
	case into < overlap:
		epochs = append(epochs, now-1)
	case into > life-overlap:
		epochs = append(epochs, now+1)
	}
	for _, g := range grants {
		for _, e := range epochs {
			out = append(out, token(secret, g, e))
		}
	}
	return out
}
