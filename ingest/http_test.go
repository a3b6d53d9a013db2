package ingest

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"qstream/bus"
	"qstream/bus/bustest"
	pb "qstream/schemas/qstream/v1"
)

// httpConfig serves submission by HTTP on a free port, without TLS.
func httpConfig() Config {
	c := Config{HTTP: "127.0.0.1:0", PlainAuth: true}
	c.Auth.Delay = time.Millisecond
	return c
}

// post is a request to an edge.
type post struct {
	query, kind, body, user, pass, key string
	method, path                       string
	header                             map[string]string
}

// posted is what came back.
type posted struct {
	status int
	header http.Header
	body   string
	ID     string `json:"id"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	SMTP   struct {
		Code     int    `json:"code"`
		Enhanced string `json:"enhanced"`
	} `json:"smtp"`
	Recipients []struct {
		Address  string `json:"address"`
		Code     int    `json:"code"`
		Enhanced string `json:"enhanced"`
	} `json:"recipients"`
	Messages []posted `json:"messages"`
}

func (p post) request(t testing.TB, base string) *http.Request {
	t.Helper()
	method, path, kind := p.method, p.path, p.kind
	if method == "" {
		method = http.MethodPost
	}
	if path == "" {
		path = "/v1/messages"
	}
	if kind == "" {
		kind = "message/rfc822"
		if strings.HasPrefix(p.body, "{") {
			kind = "application/json"
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), method, base+path+p.query, strings.NewReader(p.body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", kind)
	if p.key != "" {
		r.Header.Set("Idempotency-Key", p.key)
	}
	for name, value := range p.header {
		r.Header.Set(name, value)
	}
	if p.user != "-" {
		if p.user == "" {
			p.user = "alice@acme.example"
		}
		if p.pass == "" {
			p.pass = "secret"
		}
		r.SetBasicAuth(p.user, p.pass)
	}
	return r
}

// to posts to the HTTP service of an edge.
func (p post) to(t testing.TB, in *Ingest) posted {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	res, err := client.Do(p.request(t, "http://"+in.AddrOf(ServiceHTTP).String()))
	if err != nil {
		t.Fatal(err)
	}
	return read(t, res)
}

func read(t testing.TB, res *http.Response) posted {
	t.Helper()
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	got := posted{status: res.StatusCode, header: res.Header, body: string(text)}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return got
}

const (
	fromAlice = "?from=alice@acme.example&to=bob@acme.example"
	note      = "Subject: x\n\nhello\n"
	jsonNote  = `{"message":{"from":"alice@acme.example","to":"bob@acme.example","text":"hello"}}`
)

// envelope and content in JSON.
func jsonRaw(envelope string) string {
	return `{"envelope":` + envelope + `,"raw":"Subject: x\n\nhello\n"}`
}

func TestHTTPAnswers(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, usersSite(t))
	cfg := httpConfig()
	cfg.MaxSize, cfg.HTTPMaxJSON, cfg.MaxRecipients = 100_000, 20_000, 5
	in, _ := start(t, b, cfg)
	long := strings.Repeat("x", 70) + "\n"
	for name, tt := range map[string]struct {
		post
		status   int
		code     int    // SMTP's
		enhanced string // SMTP's
	}{
		"raw":                       {post{query: fromAlice, body: note}, 202, 250, "2.0.0"},
		"raw, of the header":        {post{body: "From: alice@acme.example\nTo: bob@acme.example\nBcc: carl@acme.example\n\nhello\n"}, 202, 250, "2.0.0"},
		"raw, CRLF":                 {post{query: fromAlice, body: "Subject: x\r\n\r\nhello\r\n"}, 202, 250, "2.0.0"},
		"raw, null path":            {post{query: "?from=&to=bob@acme.example", body: note}, 202, 250, "2.0.0"},
		"raw, DSN":                  {post{query: fromAlice + "&env_id=e1&ret=hdrs&notify=success,failure", body: note}, 202, 250, "2.0.0"},
		"JSON, raw":                 {post{body: jsonRaw(`{"from":"alice@acme.example","to":["bob@acme.example",{"address":"x@elsewhere.example","notify":["never"],"orcpt":"y@elsewhere.example"}]}`)}, 202, 250, "2.0.0"},
		"JSON, base64":              {post{body: `{"envelope":{"from":"alice@acme.example","to":["bob@acme.example"]},"raw_base64":"U3ViamVjdDogeAoKaGVsbG8K"}`}, 202, 250, "2.0.0"},
		"JSON, described":           {post{body: jsonNote}, 202, 250, "2.0.0"},
		"some refused":              {post{query: fromAlice + "&to=x@refused.example", body: note}, 202, 250, "2.0.0"},
		"quoted key":                {post{query: fromAlice, body: note, key: `"a \"b\" c"`}, 202, 250, "2.0.0"},
		"nobody":                    {post{query: fromAlice, body: note, user: "-"}, 401, 0, ""},
		"wrong password":            {post{query: fromAlice, body: note, pass: "wrong"}, 401, 0, ""},
		"no such user":              {post{query: fromAlice, body: note, user: "eve@acme.example"}, 401, 0, ""},
		"bearer":                    {post{query: fromAlice, body: note, user: "-", header: map[string]string{"Authorization": "Bearer x"}}, 401, 0, ""},
		"another's address":         {post{query: "?from=dave@acme.example&to=bob@acme.example", body: note}, 403, 553, "5.7.1"},
		"no such user there":        {post{query: "?from=alice@acme.example&to=x@refused.example", body: note}, 422, 550, "5.1.1"},
		"bad reverse-path":          {post{query: "?from=alice&to=bob@acme.example", body: note}, 422, 501, "5.1.7"},
		"bad recipient":             {post{query: "?from=alice@acme.example&to=bob+tag@acme.example", body: note}, 422, 501, "5.1.3"},
		"too large":                 {post{query: fromAlice, body: strings.Repeat(long, 1500)}, 413, 0, ""},
		"too large with CRLF":       {post{query: fromAlice, body: strings.Repeat(long, 1400)}, 413, 552, "5.3.4"},
		"user's own limit":          {post{query: "?from=r@acme.example&to=bob@acme.example", body: note + strings.Repeat(long, 20), user: "robot"}, 413, 552, "5.3.4"},
		"user's recipients":         {post{query: "?from=r@acme.example&to=bob@acme.example&to=c@acme.example", body: note, user: "robot"}, 202, 250, "2.0.0"},
		"NUL":                       {post{query: fromAlice, body: "x\x00y\n"}, 422, 550, "5.5.2"},
		"bare CR":                   {post{query: fromAlice, body: "x\ry\n"}, 422, 550, "5.5.2"},
		"long line":                 {post{query: fromAlice, body: strings.Repeat("x", 3000)}, 422, 550, "5.6.0"},
		"too many hops":             {post{query: fromAlice, body: strings.Repeat("Received: x\n", 101)}, 422, 554, "5.4.6"},
		"too many recipients":       {post{query: fromAlice + strings.Repeat("&to=a@acme.example", 5), body: note}, 422, 0, ""},
		"nobody to send to":         {post{query: "?from=alice@acme.example", body: note}, 422, 0, ""},
		"nobody who sends":          {post{body: "To: bob@acme.example\n\n"}, 422, 0, ""},
		"bad address in the header": {post{body: "From: alice@acme.example\nTo: bob\n\n"}, 422, 0, ""},
		"header too long":           {post{body: "From: alice@acme.example\nX: " + strings.Repeat("x", 90_000)}, 422, 0, ""},
		"unknown parameter":         {post{query: fromAlice + "&x=y", body: note}, 400, 0, ""},
		"twice from":                {post{query: fromAlice + "&from=x", body: note}, 400, 0, ""},
		"bad ret":                   {post{query: fromAlice + "&ret=all", body: note}, 400, 0, ""},
		"bad notify":                {post{query: fromAlice + "&notify=never,delay", body: note}, 400, 0, ""},
		"bad env_id":                {post{query: fromAlice + "&env_id=%0a", body: note}, 400, 0, ""},
		"bad query":                 {post{query: "?%zz", body: note}, 400, 0, ""},
		"JSON and query":            {post{query: fromAlice, body: jsonNote}, 400, 0, ""},
		"malformed JSON":            {post{body: `{"message":`}, 400, 0, ""},
		"something behind JSON":     {post{body: jsonNote + "{}"}, 400, 0, ""},
		"unknown key":               {post{body: `{"mesage":{}}`}, 400, 0, ""},
		"unknown key inside":        {post{body: `{"envelope":{"to":[{"adress":"x"}]}}`}, 400, 0, ""},
		"no content":                {post{body: `{"envelope":{"from":"alice@acme.example","to":["bob@acme.example"]}}`}, 422, 0, ""},
		"two contents":              {post{body: `{"raw":"x","raw_base64":"eA=="}`}, 422, 0, ""},
		"recipients without from":   {post{body: jsonRaw(`{"to":["bob@acme.example"]}`)}, 422, 0, ""},
		"injected field":            {post{body: `{"message":{"from":"alice@acme.example","to":"bob@acme.example","subject":"x\r\nBcc: eve@acme.example"}}`}, 422, 0, ""},
		"JSON too large":            {post{body: jsonRaw(`{"from":"` + strings.Repeat("x", 30_000) + `"}`)}, 413, 0, ""},
		"messages and one":          {post{body: `{"raw":"x","messages":[]}`}, 400, 0, ""},
		"no messages":               {post{body: `{"messages":[]}`}, 422, 0, ""},
		"text":                      {post{kind: "text/plain", body: note}, 415, 0, ""},
		"no type":                   {post{kind: ";", body: note}, 415, 0, ""},
		"JSON in Latin-1":           {post{kind: "application/json; charset=latin1", body: jsonNote}, 415, 0, ""},
		"compressed":                {post{query: fromAlice, body: note, header: map[string]string{"Content-Encoding": "gzip"}}, 415, 0, ""},
		"GET":                       {post{method: http.MethodGet}, 405, 0, ""},
		"elsewhere":                 {post{path: "/v1/mail", body: note}, 404, 0, ""},
		"a page's":                  {post{query: fromAlice, body: note, header: map[string]string{"Sec-Fetch-Site": "cross-site"}}, 403, 0, ""},
		"empty key":                 {post{query: fromAlice, body: note, header: map[string]string{"Idempotency-Key": ""}}, 400, 0, ""},
		"unclosed key":              {post{query: fromAlice, body: note, key: `"abc`}, 400, 0, ""},
		"long key":                  {post{query: fromAlice, body: note, key: strings.Repeat("k", 256)}, 400, 0, ""},
		"key with blanks":           {post{query: fromAlice, body: note, key: "a b"}, 400, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := tt.to(t, in)
			if got.status != tt.status || got.SMTP.Code != tt.code || got.SMTP.Enhanced != tt.enhanced {
				t.Errorf("%d %q", got.status, got.body)
			}
			if got.Status != got.status || (got.ID != "") != (tt.status == 202) {
				t.Errorf("body %q", got.body)
			}
			kind := got.header.Get("Content-Type")
			if kind == "application/problem+json" != (tt.status >= 400) {
				t.Error(kind)
			}
			if challenge := got.header.Get("WWW-Authenticate"); (challenge != "") != (tt.status == 401) {
				t.Errorf("challenge %q", challenge)
			}
		})
	}
}

func TestHTTPMessage(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, usersSite(t))
	in, _ := start(t, b, httpConfig())
	got := post{body: "From: alice@acme.example\nTo: bob@acme.example\nBcc: carl@acme.example\nX-Long: a\n b\n\nhello\n", header: map[string]string{"X-Other": "1"}}.to(t, in)
	m := received(t, b, 1)[0]
	if m.Id != got.ID || m.Session.Protocol != pb.Protocol_PROTOCOL_HTTP || m.Session.AuthUser != "alice@acme.example" || m.Session.Tenant != "acme" {
		t.Errorf("%v", m)
	}
	if m.Envelope.ReversePath != "alice@acme.example" || len(m.Envelope.Recipients) != 2 || m.Envelope.Recipients[1].Address != "carl@acme.example" {
		t.Errorf("%v", m.Envelope)
	}
	if text := string(m.Content.GetInline()); text != "From: alice@acme.example\r\nTo: bob@acme.example\r\nX-Long: a\r\n b\r\n\r\nhello\r\n" {
		t.Errorf("%q", text)
	}
	if lines := string(m.Prepend); !strings.Contains(lines, " with HTTP id "+m.Id) || !strings.Contains(lines, "\r\nMessage-ID: <"+m.Id+"@edge.example>\r\nDate: ") {
		t.Errorf("%q", lines)
	}
}

// Several messages have a status each; one that fails doesn't end the others.
func TestHTTPBatch(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, usersSite(t))
	in, _ := start(t, b, httpConfig())
	one := func(from, to string) string {
		return `{"envelope":{"from":"` + from + `","to":["` + to + `"]},"raw":"x\n"}`
	}
	good := one("alice@acme.example", "bob@acme.example")
	if got := (post{body: `{"messages":[` + good + "," + good + `]}`}).to(t, in); got.status != 202 || len(got.Messages) != 2 || got.Messages[0].ID == got.Messages[1].ID {
		t.Errorf("%d %s", got.status, got.body)
	}
	got := post{body: `{"messages":[` + strings.Join([]string{
		one("dave@acme.example", "bob@acme.example"), good, one("alice@acme.example", "x@refused.example"), `{"raw":"x","message":{}}`, good,
	}, ",") + `]}`}.to(t, in)
	want := []int{403, 202, 422, 422, 202}
	if got.status != 207 || len(got.Messages) != len(want) {
		t.Fatalf("%d %s", got.status, got.body)
	}
	for i, m := range got.Messages {
		if m.Status != want[i] || (m.ID != "") != (want[i] == 202) || m.SMTP.Code == 0 {
			t.Errorf("message %d: %+v", i, m)
		}
	}
	received(t, b, 4)
}

// What is ours to mend is 503, wherever it comes from.
func TestHTTPTrouble(t *testing.T) {
	t.Parallel()
	broker := bustest.Start(t)
	b := broker.Dial(t, bus.Config{})
	apply(t, b, usersSite(t))
	cfg := httpConfig()
	cfg.PublishTimeout = 3 * time.Second
	in, stop := start(t, b, cfg)
	if got := (post{query: fromAlice, body: note}).to(t, in); got.status != 202 {
		t.Fatal(got.body)
	}
	thaw := broker.Freeze()
	defer thaw()
	t.Run("frozen", func(t *testing.T) { // side by side: each waits for as long
		for name, p := range map[string]post{
			"raw": {query: fromAlice, body: note}, "JSON": {body: jsonNote}, "with a key": {body: jsonNote, key: "k"},
			"large": {query: fromAlice, body: huge}, "batch": {body: `{"messages":[` + jsonNote + `]}`},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				got := p.to(t, in)
				if name == "batch" {
					if got.status != 207 || got.Messages[0].Status != 503 {
						t.Errorf("%d %s", got.status, got.body)
					}
				} else if got.status != 503 || got.header.Get("Retry-After") == "" {
					t.Errorf("%d %s", got.status, got.body)
				}
			})
		}
	})
	thaw()
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// Users' certificates sign them in; TLS is the service's own.
func TestHTTPCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, _, authority := keyPair(t, dir, "ca", nil, "ca.example")
	cert, key, _ := keyPair(t, dir, "server", &authority, "mx.acme.example")
	_, _, robot := keyPair(t, dir, "robot", &authority, "robot.acme.example")
	b := bustest.New(t)
	apply(t, b, usersSite(t))
	in, _ := start(t, b, Config{HTTP: "127.0.0.1:0", TLSCert: []string{cert}, TLSKey: []string{key}, TLSClientCA: ca, HTTPClientCert: clientRequest})
	for _, tt := range []struct {
		certs []tls.Certificate
		want  int
	}{{nil, 401}, {[]tls.Certificate{robot}, 202}} {
		client := &http.Client{Transport: &http.Transport{
			DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: tt.certs},
		}}
		p := post{query: "?from=r@acme.example&to=bob@acme.example", body: note, user: "-"}
		res, err := client.Do(p.request(t, "https://"+in.AddrOf(ServiceHTTP).String()))
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, res); got.status != tt.want {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
	if m := received(t, b, 1)[0]; m.Session.AuthUser != "robot" || m.Session.TlsVersion == "" {
		t.Errorf("%v", m.Session)
	}
}

// The handler for programs of this host takes nothing from others.
func TestHTTPLocal(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, usersSite(t))
	in, _ := start(t, b, Config{})
	for name, tt := range map[string]struct {
		from, host string
		post
		want int
	}{
		"of this host":       {"127.0.0.1:4000", "127.0.0.1:8025", post{query: "?from=x@any.example&to=y@else.example", body: note, user: "-"}, 202},
		"by name":            {"[::1]:4000", "localhost:8025", post{query: "?from=x@any.example&to=y@acme.example", body: note, user: "-"}, 202},
		"a user":             {"[::1]:4000", "localhost", post{query: fromAlice, body: note}, 202},
		"a user as another":  {"[::1]:4000", "localhost", post{query: "?from=x@any.example&to=y@acme.example", body: note}, 403},
		"no relay for ::1":   {"[::1]:4000", "[::1]:8025", post{query: "?from=x@any.example&to=y@else.example", body: note, user: "-"}, 403},
		"from elsewhere":     {"192.0.2.1:4000", "127.0.0.1:8025", post{query: fromAlice, body: note, user: "-"}, 403},
		"by a page's name":   {"127.0.0.1:4000", "rebound.example:8025", post{query: fromAlice, body: note, user: "-"}, 403},
		"a page from beyond": {"127.0.0.1:4000", "127.0.0.1:8025", post{query: fromAlice, body: note, user: "-", header: map[string]string{"Origin": "https://else.example"}}, 403},
	} {
		r := tt.request(t, "http://127.0.0.1:8025")
		r.RemoteAddr, r.Host = tt.from, tt.host
		w := httptest.NewRecorder()
		in.Local().ServeHTTP(deadlines{w}, r)
		if w.Code != tt.want {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	received(t, b, 3)
}

// deadlines is a recorder that takes deadlines, as a connection does.
type deadlines struct{ *httptest.ResponseRecorder }

func (deadlines) SetReadDeadline(time.Time) error  { return nil }
func (deadlines) SetWriteDeadline(time.Time) error { return nil }

// What is described is proper MIME in the end.
func TestHTTPAttachmentArrives(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, usersSite(t))
	in, _ := start(t, b, httpConfig())
	data := bytes.Repeat([]byte("0123456789"), 100_000)
	body, err := json.Marshal(map[string]any{"message": map[string]any{
		"from": "Ann <alice@acme.example>", "to": []string{"bob@acme.example"}, "text": "see there",
		"attachments": []map[string]any{{"filename": "numbers.bin", "content": data}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got := (post{body: string(body)}).to(t, in); got.status != 202 {
		t.Fatal(got.body)
	}
	m := received(t, b, 1)[0]
	r, err := b.Open(t.Context(), m.Content.GetRef())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil || !bytes.HasPrefix(text, []byte("From: \"Ann\" <alice@acme.example>\r\n")) {
		t.Errorf("%.200q %v", text, err)
	}
}
