package wire

import (
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func TestAnswers(t *testing.T) {
	for _, tt := range []struct {
		verdict    Verdict
		text, want string
	}{
		{Accepted, "ok 1 qp 2", "10:Kok 1 qp 2,"},
		{Deferred, "", "1:Z,"},
		{Refused, "no\r\n5:Kok\x00", "11:Dno  5:Kok ,"},
		{Refused, strings.Repeat("x", 600), "491:D" + strings.Repeat("x", maxReplyText) + ","},
	} {
		got := string(AppendAnswer(nil, tt.verdict, tt.text))
		if got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
		v, _, err := netReader(got, true).ReadAnswer()
		if v != tt.verdict || err != nil {
			t.Errorf("%c %v, want %c", v, err, tt.verdict)
		}
	}
	for in, want := range map[string]error{
		"0:,": ErrAnswer, "2:ok,": ErrAnswer, "250 ok\r\n": ErrNetstring, "3:Ko": io.ErrUnexpectedEOF, "": io.ErrUnexpectedEOF,
		"99999:K": io.ErrUnexpectedEOF,
	} {
		if _, _, err := netReader(in, true).ReadAnswer(); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", in, err, want)
		}
	}
	big := AppendNetstring(nil, "K"+strings.Repeat("x", maxAnswer))
	if _, _, err := netReader(string(big), true).ReadAnswer(); !errors.Is(err, ErrNetstringSize) {
		t.Error(err)
	}
}

// request is what a QMQP request or a QMTP package says.
type request struct {
	Content, From string
	To            []string
}

func readQMQP(r *Reader, limit int64) (got request, err error) {
	f, size, err := r.QMQPMessage(limit, 1000)
	if err != nil {
		return got, err
	}
	content, err := io.ReadAll(r.Text(size, true, Options{}))
	if err != nil {
		return got, err
	}
	if err := f.Comma(); err != nil {
		return got, err
	}
	from, err := f.Short(MaxAddress)
	got = request{Content: string(content), From: string(from)}
	for err == nil && f.More() {
		var to []byte
		to, err = f.Short(MaxAddress)
		got.To = append(got.To, string(to))
	}
	if err == nil {
		err = f.Close()
	}
	return got, err
}

func readQMTP(r *Reader, limit int64) (got request, err error) {
	f := r.Stream()
	size, unix, err := f.QMTPMessage(limit)
	if err != nil {
		return got, err
	}
	content, err := io.ReadAll(r.Text(size, unix, Options{}))
	if err != nil {
		return got, err
	}
	if err := f.Comma(); err != nil {
		return got, err
	}
	from, err := f.Short(MaxAddress)
	if err != nil {
		return got, err
	}
	got = request{Content: string(content), From: string(from)}
	to, err := f.Open(1000)
	if err != nil {
		return got, unexpected(err)
	}
	for err == nil && to.More() {
		var address []byte
		address, err = to.Short(MaxAddress)
		got.To = append(got.To, string(address))
	}
	if err == nil {
		err = to.Close()
	}
	return got, err
}

// compose writes a request as a client does.
func compose(t interface{ Fatal(...any) }, r request, qmtp bool) string {
	var text strings.Builder
	w := NewLineWriter(&text, !qmtp)
	if _, err := w.Write([]byte(r.Content)); err != nil {
		t.Fatal(err)
	}
	frame := QMQPRequest
	if qmtp {
		frame = QMTPPackage
	}
	before, after := frame(w.Size(), r.From, r.To)
	return string(before) + text.String() + string(after)
}

func TestRequestBytes(t *testing.T) {
	r := request{"a\r\n\r\nb\r\n", "x@y", []string{"1@z", "22@z"}}
	if got, want := compose(t, r, false), "27:5:a\n\nb\n,3:x@y,3:1@z,4:22@z,,"; got != want {
		t.Errorf("QMQP %q, want %q", got, want)
	}
	if got, want := compose(t, r, true), "9:\ra\r\n\r\nb\r\n,3:x@y,13:3:1@z,4:22@z,,"; got != want {
		t.Errorf("QMTP %q, want %q", got, want)
	}
}

// What the client's side writes the server's side reads, one request behind
// the other, and no beginning of one is taken for the whole.
func TestRequestsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		address := rapid.StringMatching(`[a@:,]{0,12}`)
		want := request{
			Content: strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{"\r\n", "abc\r\n", "3:a,\r\n", "\x80\r\n"})).Draw(t, "lines"), ""),
			From:    address.Draw(t, "from"),
			To:      rapid.SliceOfN(address, 1, 5).Draw(t, "to"),
		}
		qmtp := rapid.Bool().Draw(t, "qmtp")
		read := readQMQP
		if qmtp {
			read = readQMTP
		}
		wire := compose(t, want, qmtp)
		r := NewReader(&cuts{t: t, s: wire + wire})
		defer r.Close()
		for range 2 {
			got, err := read(r, 1000)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("%+v %v, want %+v", got, err, want)
			}
		}
		if _, err := read(r, 1000); err != io.EOF {
			t.Fatalf("at the end: %v", err)
		}
		cut := rapid.IntRange(1, len(wire)-1).Draw(t, "cut")
		if got, err := read(netReader(wire[:cut], false), 1000); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("%q taken as %+v, %v", wire[:cut], got, err)
		}
	})
}

func TestRequestLimits(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		qmtp     bool
		want     error
	}{
		{"QMQP at the limit", "17:10:abcdefghi\n,0:,,", false, nil},
		{"QMQP above it", "18:11:abcdefghij\n,0:,,", false, ErrNetstringSize},
		{"QMQP outer above it", "99999:", false, ErrNetstringSize},
		{"QMQP message beyond the outer", "5:9:abc", false, ErrNetstring},
		{"QMQP empty", "0:,", false, ErrNetstring},
		{"QMQP without a sender", "4:1:a,,", false, ErrNetstring},
		{"QMTP at the limit", "11:\nabcdefghi\n,0:,0:,", true, nil},
		{"QMTP above it", "12:\nabcdefghij\n,0:,0:,", true, ErrNetstringSize},
		{"QMTP empty", "0:,0:,0:,", true, ErrNetstring},
		{"QMTP unknown encoding", "2:ab,0:,0:,", true, ErrNetstring},
		{"QMTP no lines", "1:\r,0:,0:,", true, nil},
	} {
		read := readQMQP
		if tt.qmtp {
			read = readQMTP
		}
		if _, err := read(netReader(tt.in, true), 10); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// The frame of an endless client costs no more memory than a buffer.
func TestRequestMemory(t *testing.T) {
	r := NewReader(io.MultiReader(strings.NewReader("200000000:190000000:"), iotest.ErrReader(io.EOF)))
	defer r.Close()
	_, size, err := r.QMQPMessage(190_000_000, 10_000_000)
	if err != nil || size != 190_000_000 || len(r.buf) > largeBuffer {
		t.Errorf("%d %v, buffer %d", size, err, len(r.buf))
	}
}

func FuzzRequests(f *testing.F) {
	f.Add("27:5:a\n\nb\n,3:x@y,3:1@z,4:22@z,,")
	f.Add("9:\ra\r\n\r\nb\r\n,3:x@y,13:3:1@z,4:22@z,,")
	f.Add("2:\na,0:,0:,2:\n\n,0:,3:0:,,")
	f.Fuzz(func(t *testing.T, in string) {
		for _, read := range []func(*Reader, int64) (request, error){readQMQP, readQMTP} {
			whole, cut := netReader(in, false), netReader(in, true)
			for {
				a, errA := read(whole, 1000)
				b, errB := read(cut, 1000)
				if (errA == nil) != (errB == nil) || errA == nil && !reflect.DeepEqual(a, b) {
					t.Fatalf("%+v %v, in pieces %+v %v", a, errA, b, errB)
				}
				if hasStray(a.Content) {
					t.Fatalf("content %q", a.Content)
				}
				if errA != nil {
					break
				}
			}
			whole.Close()
			cut.Close()
		}
	})
}
