package ca

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"ninja/internal/world"
)

// Files in a state directory, all 0600 in a directory that is 0700.
const (
	fileIdentity = "identity.pem" // key, chain and roots of one principal
	fileJoining  = "joining.pem"  // the key of one that is not joined yet
	fileRoot     = "root.pem"     // the root certificate
	fileRootKey  = "root.key"     // its key: take it away and keep it safe once the authority runs
	fileIssuing  = "issuing.pem"  // issuing key and certificate
	fileDomains  = "domains.pem"  // roots of other domains
	fileAudit    = "audit.jsonl"

	// While the root changes: what the next one has ready. Its key can be taken away like that of the active one.
	fileNextKey     = "next-root.key"
	fileNextIssuing = "next-issuing.pem"
)

// PEM block types. Roots have one of their own so that no tool mistakes an identity file for a list of trusted things.
const (
	pemKey         = "PRIVATE KEY"
	pemCertificate = "CERTIFICATE"
	pemRoot        = "NINJA ROOT CERTIFICATE"
	pemCross       = "NINJA CROSS CERTIFICATE"
	pemRouting     = "NINJA ROUTING PUBLIC KEY"

	// headerAuthorities, on the key's block, says where to renew.
	headerAuthorities = "Authorities"
	// headerDomain, on a root's block, says for which other domain it is trusted.
	headerDomain = "Domain"
	maxFile      = 1 << 20
)

// writeFile replaces a file so that a crash leaves the old one or the new one, whole and on disk.
func writeFile(dir, name string, content []byte) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+name+"-*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readFile reads a private file and refuses one that others may read.
func readFile(dir, name string) ([]byte, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others: chmod 600 it, and if others may have read it make a new one", f.Name())
	}
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", f.Name(), maxFile)
	}
	return content, err
}

// bundle is what our PEM files hold, any part of which may be missing.
type bundle struct {
	key         ed25519.PrivateKey
	chain       [][]byte
	roots       [][]byte
	domains     map[string][][]byte // roots of other domains
	keys        map[string][][]byte // their routing keys
	authorities []string
}

func (b bundle) encode() ([]byte, error) {
	var out bytes.Buffer
	if b.key != nil {
		der, err := x509.MarshalPKCS8PrivateKey(b.key)
		if err != nil {
			return nil, err
		}
		block := &pem.Block{Type: pemKey, Bytes: der}
		if len(b.authorities) > 0 {
			block.Headers = map[string]string{headerAuthorities: strings.Join(b.authorities, " ")}
		}
		if err := pem.Encode(&out, block); err != nil {
			return nil, err
		}
	}
	for _, part := range []struct {
		kind string
		ders [][]byte
	}{{pemCertificate, b.chain}, {pemRoot, b.roots}} {
		for _, der := range part.ders {
			if err := pem.Encode(&out, &pem.Block{Type: part.kind, Bytes: der}); err != nil {
				return nil, err
			}
		}
	}
	err := encodeDomains(&out, pemRoot, b.domains)
	if err == nil {
		err = encodeDomains(&out, pemRouting, b.keys)
	}
	return out.Bytes(), err
}

// encodeDomains writes what belongs to other domains.
func encodeDomains(out *bytes.Buffer, kind string, all map[string][][]byte) error {
	for _, domain := range slices.Sorted(maps.Keys(all)) {
		for _, b := range all[domain] {
			if err := pem.Encode(out, &pem.Block{Type: kind, Headers: map[string]string{headerDomain: domain}, Bytes: b}); err != nil {
				return err
			}
		}
	}
	return nil
}

func decodeBundle(content []byte) (bundle, error) {
	var b bundle
	for {
		block, rest := pem.Decode(content)
		if block == nil {
			return b, nil
		}
		content = rest
		switch block.Type {
		case pemKey:
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return bundle{}, errors.New("the private key cannot be read")
			}
			ed, ok := key.(ed25519.PrivateKey)
			if !ok {
				return bundle{}, errors.New("the private key is not an Ed25519 key")
			}
			b.key = ed
			b.authorities = strings.Fields(block.Headers[headerAuthorities])
		case pemCertificate:
			b.chain = append(b.chain, block.Bytes)
		case pemRoot:
			domain := block.Headers[headerDomain]
			if domain == "" {
				b.roots = append(b.roots, block.Bytes)
				continue
			}
			if b.domains == nil {
				b.domains = map[string][][]byte{}
			}
			b.domains[domain] = append(b.domains[domain], block.Bytes)
		case pemRouting:
			if b.keys == nil {
				b.keys = map[string][][]byte{}
			}
			domain := block.Headers[headerDomain]
			b.keys[domain] = append(b.keys[domain], block.Bytes)
		}
	}
}

func writeBundle(dir, name string, b bundle) error {
	content, err := b.encode()
	if err == nil {
		err = writeFile(dir, name, content)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Join(dir, name), err)
	}
	return nil
}

func readBundle(dir, name string) (bundle, error) {
	content, err := readFile(dir, name)
	if err != nil {
		return bundle{}, err
	}
	b, err := decodeBundle(content)
	if err != nil {
		return bundle{}, fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
	}
	return b, nil
}

// Save writes the identity, its key included, to a directory that only its user can enter, replacing what was there.
func (i *Identity) Save(dir string) error {
	c := i.credential.Load()
	known := c.anchors.state
	return writeBundle(dir, fileIdentity, bundle{
		key: i.key, chain: c.chain, roots: known.Roots, domains: known.Domains, keys: known.Keys, authorities: i.authorities,
	})
}

// Load reads what Save wrote. The error is fs.ErrNotExist if there is none. The certificate may have expired since: then
// the identity can do nothing but renew itself, until a Renewer has done so.
func Load(dir string, w world.World) (*Identity, error) {
	b, err := readBundle(dir, fileIdentity)
	if err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	if b.key == nil || len(b.chain) == 0 || len(b.roots) == 0 {
		return nil, fmt.Errorf("load identity: %s lacks a key, a certificate or a root: join again with a new token",
			filepath.Join(dir, fileIdentity))
	}
	i := &Identity{key: b.key, now: w.Now, authorities: b.authorities}
	if err := i.renewAt(b.chain, b.roots, lastValid(b.chain[0], w.Now())); err != nil {
		return nil, fmt.Errorf("load identity from %s: %w: join again with a new token", dir, err)
	}
	if err := i.Adopt(State{Roots: b.roots, Domains: b.domains, Keys: b.keys}); err != nil {
		return nil, fmt.Errorf("load identity from %s: %w", dir, err)
	}
	return i, nil
}

// Headers of the authority's list of roots, on the block of each; the certificate in which it vouches for its successor
// stands behind it.
const (
	headerState = "State"
	headerSince = "Since"
)

// writeRoots replaces the authority's list of roots.
func writeRoots(dir string, roots []root) error {
	var out bytes.Buffer
	for _, r := range roots {
		headers := map[string]string{headerState: r.state, headerSince: r.since.UTC().Format(time.RFC3339Nano)}
		if err := pem.Encode(&out, &pem.Block{Type: pemCertificate, Headers: headers, Bytes: r.der}); err != nil {
			return err
		}
		if r.cross == nil {
			continue
		}
		if err := pem.Encode(&out, &pem.Block{Type: pemCross, Bytes: r.cross}); err != nil {
			return err
		}
	}
	if err := writeFile(dir, fileRoot, out.Bytes()); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Join(dir, fileRoot), err)
	}
	return nil
}

// readRoots reads the list of roots: the active one first. One without a state, as older versions wrote, is active.
func readRoots(dir string) ([]root, error) {
	content, err := readFile(dir, fileRoot)
	if err != nil {
		return nil, err
	}
	var roots []root
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case block.Type == pemCertificate:
			r := root{der: block.Bytes, state: block.Headers[headerState]}
			r.since, _ = time.Parse(time.RFC3339Nano, block.Headers[headerSince]) // zero where there is none
			if r.state == "" {
				r.state = rootActive
			}
			roots = append(roots, r)
		case block.Type == pemCross && len(roots) > 0:
			roots[len(roots)-1].cross = block.Bytes
		}
	}
	active := 0
	for _, r := range roots {
		if r.state == rootActive {
			active++
		}
	}
	if active != 1 || roots[0].state != rootActive {
		return nil, fmt.Errorf("%s: want one active root, and that first", filepath.Join(dir, fileRoot))
	}
	return roots, nil
}
