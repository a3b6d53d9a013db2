package audit

import (
	"encoding/json"
	"net/http"
	"time"
)

// Path is where a Handler is served.
const Path = "/v1/audit"

// Handler audits when it is asked, with the scope in the query
// (tenant, since in RFC 3339), and answers with the report as JSON: 200,
// balanced or not. What can't be done is a plain text: 400 for a scope that is
// none, 503 for the rest.
func (a *Auditor) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := Scope{Tenant: r.URL.Query().Get("tenant")}
		if text := r.URL.Query().Get("since"); text != "" {
			var err error
			if s.Since, err = time.Parse(time.RFC3339, text); err != nil {
				http.Error(w, "since is no time like 2026-11-23T19:00:00Z", http.StatusBadRequest)
				return
			}
		}
		report, err := a.Audit(r.Context(), s)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		// Who asked is gone if this fails.
		_ = json.NewEncoder(w).Encode(report)
	})
}
