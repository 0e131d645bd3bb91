package units

import (
	"context"
	"embed"
	"encoding/json"
	"html/template"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"ninja/connectors/webrtc"
)

//go:embed page
var pageFiles embed.FS

// answerTime bounds the answer to an offer.
const answerTime = 10 * time.Second

// Handler serves the unit's page and what it asks for:
//
//	GET  /            the page; it holds nothing secret
//	POST /tab         {"key": that of the link} for {"token": ...}; 403 when the key does not hold
//	POST /offer       an SDP offer, with "Authorization: Bearer TOKEN", for the answer
//
// All of it is of one origin and nothing comes from elsewhere.
func (b *Browser) Handler() (http.Handler, error) {
	files, err := fs.Sub(pageFiles, "page")
	if err != nil {
		return nil, err
	}
	page, err := template.ParseFS(files, "index.html")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if err := page.Execute(w, struct{ Name string }{b.cfg.Name}); err != nil {
			b.cfg.Log.Warn("serve the page", "error", err)
		}
	})
	static := http.FileServerFS(files)
	mux.Handle("GET /page.js", static)
	mux.Handle("GET /page.css", static)
	mux.HandleFunc("POST /tab", b.serveTab)
	mux.HandleFunc("POST /offer", b.serveOffer)
	return guarded(http.NewCrossOriginProtection().Handler(mux)), nil
}

// guarded adds what tells a browser to load and to show nothing else.
func guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; media-src 'self' blob:; "+
			"base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("Permissions-Policy", "microphone=(self), camera=(), geolocation=()")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// body reads a request of at most limit bytes.
func body(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, bool) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		http.Error(w, "the request is too long or broke off", http.StatusRequestEntityTooLarge)
	}
	return b, err == nil
}

// maxKey bounds the request for a tab's token in bytes.
const maxKey = 256

func (b *Browser) serveTab(w http.ResponseWriter, r *http.Request) {
	raw, ok := body(w, r, maxKey)
	if !ok {
		return
	}
	var asked struct {
		Key string `json:"key"`
	}
	if json.Unmarshal(raw, &asked) != nil {
		http.Error(w, "want {\"key\": ...}", http.StatusBadRequest)
		return
	}
	token, ok := b.door.redeem(asked.Key)
	if !ok {
		http.Error(w, "This link has been used or has expired. Take a new one from where the unit runs.", http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"token": token})
}

func (b *Browser) serveOffer(w http.ResponseWriter, r *http.Request) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || !b.door.admits(token) {
		http.Error(w, "This page is not admitted. Take a new link from where the unit runs.", http.StatusForbidden)
		return
	}
	offer, ok := body(w, r, webrtc.MaxOffer)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTime)
	defer cancel()
	answer, err := b.connect(ctx, string(offer))
	if err != nil {
		b.cfg.Log.Info("an offer was refused", "error", err)
		http.Error(w, "The offer cannot be answered: this page wants a browser with WebRTC and PCMU.", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/sdp")
	_, _ = io.WriteString(w, answer)
}
