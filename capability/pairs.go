package capability

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"

	"ninja/ca"
)

// Routes are what the SDS servers of a domain make tokens of grants with (package summary of room sds). They are shared:
// do not change them.
type Routes struct {
	// Secret is of the domain alone.
	Secret []byte
	// Pairs are, by domain, what this domain and another one alone know.
	Pairs map[string]Pair
	// guests are the members of this domain's groups that belong to other domains; in are the groups that each is in.
	guests map[Who][]ca.ID
	in     map[ca.ID][]Who
}

// Pair is what two domains alone know: keys of tokens, several while a routing key changes.
type Pair struct {
	// Here are for services of this domain whose ACLs name principals or groups of the other one, There the other way round.
	Here, There [][]byte
}

// NewRoutes puts Routes together; guests are by group.
func NewRoutes(secret []byte, pairs map[string]Pair, guests map[Who][]ca.ID) *Routes {
	r := &Routes{Secret: secret, Pairs: pairs, guests: guests}
	if len(guests) > 0 {
		r.in = make(map[ca.ID][]Who)
	}
	for group, members := range guests {
		for _, m := range members {
			r.in[m] = append(r.in[m], group)
		}
	}
	return r
}

// Groups are the groups of this domain that a principal of another one is in.
func (r *Routes) Groups(of ca.ID) []Who {
	if r == nil {
		return nil
	}
	return r.in[of]
}

// Lock is one way to name a grant in a token: under a key, by the name that the grant has where the service is.
type Lock struct {
	Key  []byte
	Name Who
}

// Locks are the ways in which a grant that an ACL of this domain names stands in this domain's summaries: for groups and
// principals of the domain under its secret, for those of another one under what the two share, and for a group that has
// members of others once for each of these too.
func (r *Routes) Locks(grant Who) (out []Lock) {
	if r == nil || grant == Everyone {
		return nil
	}
	if domain := grant.Domain(); domain != "" {
		if p, foreign := r.Pairs[domain]; foreign {
			return locks(out, p.Here, grant)
		}
	}
	if len(r.Secret) > 0 {
		out = append(out, Lock{r.Secret, grant})
	}
	for _, guest := range r.guests[grant] {
		out = locks(out, r.Pairs[guest.Domain()].Here, Who(guest))
	}
	return out
}

// Keys are the ways in which what a principal of this domain holds may stand in summaries anywhere: what its own domain
// grants first, then what others may grant to it by name, then to its groups; at most so many.
func (r *Routes) Keys(grants []Who, most int) (out []Lock) {
	if r == nil {
		return nil
	}
	own, domains := r.own(grants), slices.Sorted(maps.Keys(r.Pairs))
	for _, g := range grants {
		if g != Everyone && len(r.Secret) > 0 {
			out = append(out, Lock{r.Secret, g})
		}
	}
	for _, groups := range []bool{false, true} {
		for _, g := range grants {
			name, known := g.abroad(own)
			if _, _, group := g.group(); group != groups || !known {
				continue
			}
			for _, d := range domains {
				out = locks(out, r.Pairs[d].There, name)
			}
		}
	}
	return out[:min(len(out), most)]
}

// Leads reports whether a lock is of what this domain shares with another one, for services of the other.
func (r *Routes) Leads(l Lock, domain string) bool {
	return slices.ContainsFunc(r.Pairs[domain].There, func(k []byte) bool { return bytes.Equal(k, l.Key) })
}

// own is the domain of the principal whose grants these are.
func (r *Routes) own(grants []Who) string {
	for _, g := range grants {
		if _, _, group := g.group(); !group && g != Everyone {
			return g.Domain()
		}
	}
	return ""
}

func locks(out []Lock, keys [][]byte, name Who) []Lock {
	for _, k := range keys {
		out = append(out, Lock{k, name})
	}
	return out
}

// pairSize is how many bytes a key of tokens has.
const pairSize = 32

// pairOf is what two domains share: X25519 between the routing keys of their managers (RFC 7748), whose result HKDF
// (RFC 5869) binds to whose services and whose names it is for. Both managers get the same without a word between them.
func pairOf(own []*ecdh.PrivateKey, domain string, theirs [][]byte, other string) (Pair, error) {
	var p Pair
	for _, mine := range own {
		for _, raw := range theirs {
			public, err := ecdh.X25519().NewPublicKey(raw)
			var shared []byte
			if err == nil {
				shared, err = mine.ECDH(public)
			}
			if err != nil {
				return Pair{}, fmt.Errorf("the routing key of %s: %w", other, err)
			}
			here, err := pairKey(shared, mine.PublicKey().Bytes(), raw, domain, other)
			if err != nil {
				return Pair{}, err
			}
			there, err := pairKey(shared, raw, mine.PublicKey().Bytes(), other, domain)
			if err != nil {
				return Pair{}, err
			}
			p.Here, p.There = append(p.Here, here), append(p.There, there)
		}
	}
	return p, nil
}

// pairKey is the key of tokens for services of one domain and names of the other. Domains have no zero bytes and public
// keys one length, so that what it is bound to can mean one thing only.
func pairKey(shared, servicesKey, namesKey []byte, services, names string) ([]byte, error) {
	info := "ninja routing pair 1\x00" + services + "\x00" + names + "\x00" + string(servicesKey) + string(namesKey)
	return hkdf.Key(sha256.New, shared, nil, info, pairSize)
}
