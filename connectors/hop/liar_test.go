package hop

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"testing"

	"ninja/ca"
	"ninja/internal/world"
)

// A server with a valid identity that answers a Fetch with other data, with more than was asked for, with less, or with
// nonsense, gets nothing past the caller.
func TestFetchFromALiar(t *testing.T) {
	w := world.Real()
	authority, err := ca.NewAuthority(w, "test")
	if err != nil {
		t.Fatal(err)
	}
	liar, _ := authority.NewIdentity(ca.KindProxy, "liar")
	victim, _ := authority.NewIdentity(ca.KindProxy, "victim")
	hash := sha256.Sum256([]byte("right"))
	for name, answer := range map[string][]byte{
		"other data": append(appendFrame(nil, kindWelcome, welcome{size: 5}.append), "wrong"...),
		"too much":   append(appendFrame(nil, kindWelcome, welcome{size: 1 << 31}.append), "right"...),
		"too little": append(appendFrame(nil, kindWelcome, welcome{size: 5}.append), "rig"...),
		"no welcome": appendNumber(nil, kindPing, 7),
		"nonsense":   []byte("HTTP/1.0 200 OK\r\n\r\n"),
		"nothing":    nil,
	} {
		l, err := w.Net.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c := liar.ServerTLS(nil)
		c.NextProtos = []string{alpn}
		done := make(chan struct{})
		go func() {
			defer close(done)
			raw, err := l.Accept()
			if err != nil {
				return
			}
			defer raw.Close()
			conn := tls.Server(raw, c)
			if _, _, err := readFrame(newBuffer(conn)); err == nil {
				conn.Write(answer)
			}
			conn.Close()
		}()
		data, err := Fetch(t.Context(), w, victim, l.Addr().String(), liar.ID(), hex.EncodeToString(hash[:]), 100)
		if err == nil {
			t.Errorf("%s: %q is taken", name, data)
		}
		<-done
		l.Close()
	}
}
