package deliver

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"qstream/directory"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/transport"
)

// A leg that a policy wants scanned is not attempted; what is past its lifetime,
// suspended or elsewhere is that first.
func TestPlanScansFirst(t *testing.T) {
	done := &pb.Scan{State: pb.ScanState_SCAN_STATE_DONE, Policy: "p"}
	for _, c := range []struct {
		name   string
		change func(*pb.Leg)
		held   bool
		want   action
	}{
		{"never scanned", func(*pb.Leg) {}, false, toScan},
		{"scanned", func(l *pb.Leg) { l.Scan = done }, false, toAttempt},
		{"scanned by another", func(l *pb.Leg) { l.Scan = &pb.Scan{State: done.State, Policy: "old"} }, false, toScan},
		{"exempt", func(l *pb.Leg) { l.Scan = &pb.Scan{State: pb.ScanState_SCAN_STATE_EXEMPT} }, false, toAttempt},
		{"refused", func(l *pb.Leg) { l.Refusal = &pb.Status{Code: 550} }, false, toRefuse},
		{"expired", func(l *pb.Leg) { l.Expired = true }, false, toExpire},
		{"elsewhere", func(l *pb.Leg) { l.Destination = "192.0.2.9:25" }, false, toReroute},
		{"suspended", func(*pb.Leg) {}, true, toPark},
	} {
		v := testView(t)
		decide := v.decide
		v.decide = func(q directory.Question) directory.Decision {
			d := decide(q)
			d.Scan = "p"
			return d
		}
		v.suspended = func(string, string, string) (time.Time, bool) { return noon.Add(-time.Minute), c.held }
		l := testLeg("a@acme.example", "b@acme.example")
		c.change(l)
		p := planFor(l, v)
		if p.action != c.want {
			t.Errorf("%s: %v, want %v", c.name, actionNames[p.action], actionNames[c.want])
		}
		if p.action != toScan {
			continue
		}
		rs := scanRecords(l, p, v)
		next := &pb.Leg{}
		if err := proto.Unmarshal(rs[0].Value, next); err != nil || rs[0].Topic != schemas.Scan(l.Queue, l.Generation) || next.Step != l.Step+1 || next.Scan.Policy != "p" {
			t.Errorf("%s: %v on %s, %v", c.name, next, rs[0].Topic, err)
		}
	}
}

// What is delivered has its header changed and its content as stored, in as many
// bytes as the attempt says.
func TestEdit(t *testing.T) {
	const stored = "Subject: hello\r\nX-Old: 1\r\n\r\nSubject: body\r\n"
	long := "X-Long: " + strings.Repeat("x", maxEdited) + "\r\n\r\nbody\r\n"
	changes := []*pb.HeaderChange{
		{Kind: pb.ChangeKind_CHANGE_KIND_DELETE, Name: "X-Old"}, {Kind: pb.ChangeKind_CHANGE_KIND_ADD, Name: "X-New", Value: []byte("2")},
		{Kind: pb.ChangeKind_CHANGE_KIND_PREFIX, Name: "Subject", Value: []byte("[spam]")}, {Kind: 99, Name: "X-Future"},
	}
	for _, c := range []struct {
		content string
		changes []*pb.HeaderChange
		want    string
	}{
		{stored, nil, "Received: x\r\n" + stored},
		{stored, changes, "Received: x\r\nSubject: [spam] hello\r\nX-New: 2\r\n\r\nSubject: body\r\n"},
		{"no header\r\n", changes[1:2], "Received: x\r\nX-New: 2\r\nno header\r\n"},
		{long, changes, "Received: x\r\nX-New: 2\r\n" + long},
	} {
		l := testLeg("a@acme.example")
		l.Scan = &pb.Scan{Changes: c.changes}
		opened := 0
		a := &transport.Attempt{Size: int64(len(c.content)), Prepend: []byte("Received: x\r\n"), Content: func(context.Context) (io.ReadCloser, error) {
			opened++
			return io.NopCloser(strings.NewReader(c.content)), nil
		}}
		if err := (&Deliverer{}).edit(t.Context(), l, a); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			r, err := a.Content(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, string(a.Prepend)+string(rest)); d != "" {
				t.Errorf("%.300s", d)
			}
			if int64(len(rest)) != a.Size {
				t.Errorf("%d bytes follow, the attempt says %d", len(rest), a.Size)
			}
		}
		if c.changes == nil && opened != 2 {
			t.Error("content without changes was opened to be changed")
		}
	}
}

// A report about what scanning found something in carries its header only.
func TestReportsOfSuspiciousMail(t *testing.T) {
	l := testLeg("a@acme.example")
	l.Ret = pb.Ret_RET_FULL
	if !wantsFull(l, false) {
		t.Fatal("RET=FULL is not heard")
	}
	l.Scan = &pb.Scan{State: pb.ScanState_SCAN_STATE_DONE, Action: "reject", Finding: "malware"}
	if wantsFull(l, false) || wantsFull(l, true) {
		t.Error("malware goes along")
	}
	l.Scan.Finding = ""
	if !wantsFull(l, false) || !scanned(l) {
		t.Error("clean mail doesn't go along, or is scanned again")
	}
}
