package observe

import (
	"embed"
	"net/http"
)

//go:embed page
var files embed.FS

// pages serves the status page. There is nothing else to find.
func pages() http.Handler {
	types := map[string]string{
		"index.html": "text/html; charset=utf-8", "page.css": "text/css; charset=utf-8",
		"page.js": "text/javascript; charset=utf-8", "picture.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml",
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Path[1:]
		if name == "" {
			name = "index.html"
		}
		kind, ok := types[name]
		if !ok {
			http.Error(w, "no such page", http.StatusNotFound)
			return
		}
		b, err := files.ReadFile("page/" + name)
		if err != nil {
			http.Error(w, "no such page", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(b) // the client may be gone
	})
}
