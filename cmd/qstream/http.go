package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"qstream/ingest/httpd"
)

// newRegistry has the process's own figures; stages add theirs.
func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// web is the process's HTTP listener: health, metrics, and on loopback only
// pprof and what verbs ask to find the system.
type web struct {
	listener net.Listener
	mux      *http.ServeMux
}

// listenHTTP opens the port, so that a taken one is told before anything
// starts. An empty address serves nothing.
func listenHTTP(addr string, h *health, metrics *prometheus.Registry) (*web, error) {
	if addr == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("--http: %w", taken(err))
	}
	w := &web{listener: l, mux: http.NewServeMux()}
	w.mux.HandleFunc("GET /healthz", h.live)
	w.mux.HandleFunc("GET /readyz", h.ready)
	w.mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{Registry: metrics}))
	if loopback(l.Addr()) {
		w.mux.HandleFunc("/debug/pprof/", pprof.Index)
		w.mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		w.mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		w.mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		w.mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return w, nil
}

// taken says what to do about a port that another process has.
func taken(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w; stop the process that has it, or choose another", err)
	}
	if a := (*net.AddrError)(nil); errors.As(err, &a) {
		return fmt.Errorf("%w; want HOST:PORT, such as 127.0.0.1:8025", err)
	}
	return err
}

// tell serves what --api asks for, on loopback only: it names the brokers.
func (w *web) tell(r Running) {
	if w == nil || !loopback(w.listener.Addr()) {
		return
	}
	w.mux.HandleFunc("GET /system", func(out http.ResponseWriter, _ *http.Request) {
		out.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(out).Encode(r)
	})
}

// serve answers below a path.
func (w *web) serve(path string, h http.Handler) {
	if w != nil {
		w.mux.Handle(path, h)
	}
}

// submit takes messages for the edge among the stages, from programs of this
// host.
func (w *web) submit(stages []stage) {
	for _, s := range stages {
		if edge, ok := s.(interface{ Local() http.Handler }); ok {
			w.serve(httpd.Path, edge.Local())
		}
	}
}

func (w *web) addr() string {
	if w == nil {
		return ""
	}
	return w.listener.Addr().String()
}

// close frees the port of a web that never ran.
func (w *web) close() {
	if w != nil {
		_ = w.listener.Close()
	}
}

// maxWebHeader bounds a request's header, in octets.
const maxWebHeader = 64 << 10

// forPages are paths that hold nothing of anybody's.
var forPages = map[string]bool{"/healthz": true, "/readyz": true, "/metrics": true}

// guarded is what a loopback listener serves: what is for this host alone is
// asked for by a name of it, and not by a page from elsewhere. Otherwise a page
// whose name comes to lead to 127.0.0.1 could read in a browser who mails whom.
func (w *web) guarded() http.Handler {
	if !loopback(w.listener.Addr()) {
		return w.mux
	}
	return http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if !forPages[r.URL.Path] && (!httpd.LoopbackName(r.Host) || r.Header.Get("Sec-Fetch-Site") == "cross-site") {
			http.Error(out, "only programs of this host are served here", http.StatusForbidden)
			return
		}
		w.mux.ServeHTTP(out, r)
	})
}

// run serves until ctx ends.
func (w *web) run(ctx context.Context) error {
	if w == nil {
		<-ctx.Done()
		return nil
	}
	server := &http.Server{Handler: w.guarded(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: maxWebHeader}
	served := make(chan error, 1)
	go func() { served <- server.Serve(w.listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := server.Shutdown(bounded)
	if errors.Is(err, context.DeadlineExceeded) { // a profile may run for long
		err = server.Close()
	}
	<-served
	return err
}

func loopback(a net.Addr) bool {
	addr, err := netip.ParseAddrPort(a.String())
	return err == nil && addr.Addr().IsLoopback()
}
