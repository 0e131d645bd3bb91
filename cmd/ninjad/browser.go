package main

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"ninja/apc"
	"ninja/ca"
	"ninja/operators"
	"ninja/sds"
	"ninja/units"
)

// checkPage says what is wrong with the keys of a browser unit.
func (u *unitRole) checkPage() error {
	if u.Kind != "browser" {
		return nil
	}
	a, err := netip.ParseAddrPort(u.Page)
	if err != nil {
		return fmt.Errorf("roles.unit.page: %q is not an address and a port, such as 127.0.0.1:7790", u.Page)
	}
	if (u.Certificate == "") != (u.Key == "") {
		return errors.New("roles.unit: a certificate and its key go together")
	}
	if u.Certificate == "" && !a.Addr().IsLoopback() {
		return fmt.Errorf("roles.unit.page: browsers give the microphone to pages by HTTPS or of their own machine only: "+
			"name a certificate and its key, or serve the page at 127.0.0.1 instead of %s", a.Addr())
	}
	return nil
}

// startBrowser plays a unit whose user has a web browser.
func (d *daemon) startBrowser(ctx context.Context, role unitRole) error {
	n, err := d.member(ctx, ca.KindUnit, role.serviceRole)
	if err != nil {
		return err
	}
	l, err := d.listen(ctx, "page", role.Page)
	if err != nil {
		return err
	}
	l, scheme, err := role.secure(l)
	if err != nil {
		return err
	}
	link := scheme + "://" + l.Addr().String() + "/#"
	cfg := units.BrowserConfig{
		Name: role.Name, World: d.world, Opus: role.Voice == "opus", At: netip.MustParseAddrPort(l.Addr().String()).Addr(), Position: role.Position.position(), Log: n.log,
		Link: func(key string) { d.tellLink(link + key) },
	}
	if role.Call != "" {
		line := fmt.Sprintf("browser:%s ! %s ! browser:%s", role.Name, role.Call, role.Name)
		cfg.Call = func(ctx context.Context, tell func(kind, text string)) error { return n.call(ctx, line, tell) }
	}
	b, err := units.NewBrowser(cfg)
	if err != nil {
		return err
	}
	b.Register(n.registry)
	if err := n.allow(ctx, role.Name, role.ACL); err != nil {
		return err
	}
	n.serve()
	if err := d.servePage(b, l); err != nil {
		return err
	}
	d.ready["page"] = l.Addr().String()
	description := b.Description(n.element())
	text, err := description.Marshal()
	if err != nil {
		return err
	}
	return n.announcer.Publish(role.Name, text)
}

// secure makes the page's listener one of HTTPS when there is a certificate.
func (u *unitRole) secure(l net.Listener) (net.Listener, string, error) {
	if u.Certificate == "" {
		return l, "http", nil
	}
	pair, err := tls.LoadX509KeyPair(u.Certificate, u.Key)
	if err != nil {
		return nil, "", fmt.Errorf("roles.unit.certificate: %w", err)
	}
	return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}}), "https", nil
}

func (d *daemon) servePage(b *units.Browser, l net.Listener) error {
	handler, err := b.Handler()
	if err != nil {
		return err
	}
	s := &http.Server{Handler: handler, ReadTimeout: 10 * time.Second, WriteTimeout: 20 * time.Second, MaxHeaderBytes: 16 << 10}
	d.keep(d.log, "browser", b.Run)
	d.keep(d.log, "page", func(ctx context.Context) error {
		defer context.AfterFunc(ctx, func() { _ = s.Close() })()
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return nil
}

// tellLink keeps the link that holds now in a file of the daemon's owner, which the log names: the link itself is a
// secret.
func (d *daemon) tellLink(link string) {
	file := filepath.Join(d.cfg.State, "browser-link")
	half := file + ".new"
	err := os.WriteFile(half, []byte(link+"\n"), 0o600)
	if err == nil {
		err = os.Rename(half, file)
	}
	if err != nil {
		d.log.Error("the link to the page cannot be written", "error", err)
		return
	}
	d.log.Info("open the page by the link in this file; it holds once", "file", file)
}

// call makes a path for the node's own user, tells of what happens on it, and waits for its end; with ctx it is deleted.
func (n *node) call(ctx context.Context, line string, tell func(kind, text string)) error {
	creator, err := n.creator(ctx)
	if err != nil {
		return err
	}
	defer creator.Close()
	var name [8]byte
	n.d.world.Fill(name[:])
	info, err := creator.Create(ctx, apc.Request{Path: hex.EncodeToString(name[:]), Line: line})
	if err != nil {
		return err
	}
	var fault error
	err = creator.Watch(ctx, info.Path, func(e apc.Event) error {
		switch {
		case e.Kind == "note":
			tell(e.NoteKind, e.Text)
		case e.Kind == "fault":
			fault = errors.New(e.Text)
		}
		return nil
	})
	if ctx.Err() != nil {
		leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_, err = creator.Delete(leave, info.Path)
		if errors.Is(err, apc.ErrNoPath) {
			err = nil
		}
		return err
	}
	return errors.Join(fault, err)
}

// creator finds a path creator.
func (n *node) creator(ctx context.Context) (*apc.Client, error) {
	found, err := n.finder.Query(ctx, sds.Query{Template: apc.Template(apc.Kind, ""), Limit: 1})
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		d, err := operators.ParseDescription(f.Description)
		if err == nil && d.Node != nil && f.Owner.Kind() == ca.KindAPC {
			return apc.NewClient(n.id, d.Node.Control, n.rights.Capability)
		}
	}
	return nil, errors.New("no path creator is published that this unit may find")
}
