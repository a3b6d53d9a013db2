package tenants

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// TestSlowReader: who asks and doesn't read is cut off, gets its places back,
// and can read all of it then.
func TestSlowReader(t *testing.T) {
	b := bustest.New(t)
	apply(t, b, three)
	part, _ := start(t, b, byHeader)
	part.writeTime = 200 * time.Millisecond
	outcomes := make([]*pb.Outcome, 3000)
	for i := range outcomes {
		outcomes[i] = &pb.Outcome{Address: fmt.Sprintf("%s%d@acme.example", strings.Repeat("a", 200), i)}
	}
	for range 8 {
		bustest.Put(t, b, bus.NewEvent(&pb.Event{
			Type: pb.EventType_EVENT_TYPE_DELIVERED, MessageId: mail.NewID(time.Now()), Leg: 1, Step: 1, Tenant: "acme", Outcomes: outcomes,
		}))
	}
	s := httptest.NewUnstartedServer(part.Handler())
	s.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		_ = c.(*net.TCPConn).SetWriteBuffer(16 << 10) // else the kernel takes it all
		return ctx
	}
	s.Start()
	defer s.Close()
	var lazy []net.Conn
	for range perTenant {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.(*net.TCPConn).SetReadBuffer(16 << 10)
		if _, err := io.WriteString(c, "GET "+Path+"?limit=1000 HTTP/1.1\r\nHost: x\r\nTenant: acme\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		lazy = append(lazy, c)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		part.asking.mu.Lock()
		left := part.asking.all
		part.asking.mu.Unlock()
		if cut := value(t, part.metrics.cutOff); cut == perTenant && left == 0 {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("%v of %d cut off, %d places taken", cut, perTenant, left)
		}
	}
	for _, c := range lazy { // what is cut off is no whole answer
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, answer.Body); err == nil {
			t.Errorf("%d bytes of an answer that was cut off look whole", n)
		}
	}
	part.writeTime = time.Minute
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+Path+"?limit=1000", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Tenant", "acme")
	answer, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK || !strings.HasSuffix(string(text), "\"more\":true}\n") {
		t.Errorf("%d, %d bytes: %v", answer.StatusCode, len(text), err)
	}
}

func value(t testing.TB, c prometheus.Counter) float64 {
	t.Helper()
	m := &dto.Metric{}
	if err := c.Write(m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}
