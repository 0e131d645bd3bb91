package wrap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"ninja/connectors"
	"ninja/operators"
)

const (
	// maxRedirects is how many redirects one request follows.
	maxRedirects = 3
	// maxHeader bounds the header of an answer in bytes.
	maxHeader = 64 << 10
)

// makeHTTP is the factory of wrapped HTTP services: every ADU is posted, with the media type of the input, and the body
// of the answer, which must have the status 200, is the output.
func (w *Wrapper) makeHTTP(_ context.Context, env operators.Env) (operators.Operator, error) {
	if err := checkArgs(env.Args, []string{"url"}); err != nil {
		return nil, err
	}
	u, err := url.Parse(env.Args["url"])
	if err != nil {
		return nil, fmt.Errorf("argument url: %w", err)
	}
	if err := checkURL(u); err != nil {
		return nil, fmt.Errorf("argument url: %w", err)
	}
	t := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return w.policy.dial(ctx, env.World, network, address)
		},
		Proxy:              nil,  // the environment's would dial for us, unchecked
		DisableCompression: true, // what is received is what is counted
		MaxConnsPerHost:    1, MaxIdleConns: 1, IdleConnTimeout: w.cfg.Timeout, TLSHandshakeTimeout: w.cfg.Timeout,
		MaxResponseHeaderBytes: maxHeader, ForceAttemptHTTP2: true,
	}
	h := &httpService{url: u.String(), in: env.In.Media(), out: env.Out.Media(), transport: t}
	h.client = &http.Client{Transport: t, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fmt.Errorf("more than %d redirects", maxRedirects)
		}
		if r.Method != http.MethodPost {
			return errors.New("a redirect that drops the request: want status 307 or 308")
		}
		return checkURL(r.URL)
	}}
	return w.operator(env, h), nil
}

// checkURL refuses URLs of other schemes, and those with a name and password in them, which would end up in logs.
func checkURL(u *url.URL) error {
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.Opaque != "" {
		return fmt.Errorf("want http(s)://HOST/PATH without a user, not the scheme %.20q", u.Scheme)
	}
	return nil
}

type httpService struct {
	url, in, out string
	transport    *http.Transport
	client       *http.Client
}

func (h *httpService) ask(ctx context.Context, payload []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", h.in)
	r.Header.Set("Accept", h.out)
	r.Header.Set("User-Agent", "ninja")
	answer, err := h.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers with status %d", h.url, answer.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, connectors.MaxPayload+1))
	if err == nil && len(body) > connectors.MaxPayload {
		err = tooLong()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.url, err)
	}
	return body, nil
}

func (h *httpService) close() { h.transport.CloseIdleConnections() }
