package directory

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"qstream/mail"
)

// Types of Sink.
const (
	SinkMaildir = "maildir"
	SinkMbox    = "mbox"
	SinkFile    = "file"
	SinkETSI    = "etsi"
	SinkSMTP    = "smtp"
	SinkS3      = "s3"
	SinkWebhook = "webhook"
	SinkKafka   = "kafka"
)

// Sink says where copies of mail go: an archive's, or a tap's. Secrets are
// never in it: it names the files that hold them.
type Sink struct {
	Type string
	// Path is the folder of maildir, file and etsi, the file of mbox: absolute.
	Path string
	// Host and Port of smtp. Default port 25.
	Host string
	Port int
	// URL of a webhook; of s3 the endpoint.
	URL string
	// Bucket and Prefix of s3; the prefix has no slash at its ends.
	Bucket, Prefix string
	// Seeds (host:port) and Topic of kafka.
	Seeds []string
	Topic string

	options map[string]string
}

// Option is the value of an option, or its default; empty if it has none.
func (s Sink) Option(name string) string {
	if v, ok := s.options[name]; ok {
		return v
	}
	return sinkDefaults[s.Type+" "+name]
}

// sinkOptions are the options of each type. Those that end in "_file" are
// absolute paths.
var sinkOptions = map[string][]string{
	SinkMaildir: {"form"},
	SinkMbox:    {"form"},
	SinkFile:    nil,
	SinkETSI:    nil,
	SinkSMTP:    {"to", "from", "form", "tls", "ca_file"},
	SinkS3:      {"endpoint", "region", "key_file", "ca_file"},
	SinkWebhook: {"secret_file", "ca_file"},
	SinkKafka:   {"tls", "ca_file", "cert_file", "key_file", "sasl", "user", "password_file"},
}

// sinkNeeds are those that a type can't do without.
var sinkNeeds = map[string][]string{
	SinkSMTP: {"to"}, SinkS3: {"endpoint", "key_file"}, SinkWebhook: {"secret_file"},
}

var sinkDefaults = map[string]string{
	"maildir form": "raw", "mbox form": "raw", "smtp form": "report",
	"smtp tls": "verify", "kafka tls": "verify", "s3 region": "us-east-1",
}

// sinkChoices are the values of options that have few.
var sinkChoices = map[string][]string{
	"form": {"raw", "report"}, "smtp tls": {"verify", "try", "off"}, "kafka tls": {"verify", "off"},
	"sasl": {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"},
}

// ParseSink reads a place and its options, with blanks between them:
//
//	maildir:/path [form=raw|report]
//	mbox:/path [form=raw|report]
//	file:/path
//	etsi:/path
//	smtp://host[:port] to=ADDRESS [from=ADDRESS] [form=report|raw] [tls=verify|try|off] [ca_file=/path]
//	s3://bucket[/prefix] endpoint=URL key_file=/path [region=NAME] [ca_file=/path]
//	https://host/path secret_file=/path [ca_file=/path]
//	kafka://host:port[,host:port]/topic [tls=verify|off] [ca_file=, cert_file=, key_file=/path]
//	      [sasl=PLAIN|SCRAM-SHA-256|SCRAM-SHA-512 user=NAME password_file=/path]
//
// Plain http is taken for loopback addresses only, since copies are mail.
func ParseSink(s string) (Sink, error) {
	if mail.Printable(s) != s {
		return Sink{}, errors.New("a sink holds no control characters")
	}
	words := strings.Fields(s)
	if len(words) == 0 {
		return Sink{}, errors.New("a sink names a place, such as maildir:/var/mail/archive")
	}
	sink, err := parsePlace(words[0])
	if err != nil {
		return Sink{}, fmt.Errorf("sink %q: %w", redacted(words[0]), err)
	}
	if sink.options, err = parseSinkOptions(sink.Type, words[1:]); err != nil {
		return Sink{}, fmt.Errorf("sink %q: %w", redacted(words[0]), err)
	}
	if sink.Type == SinkS3 {
		if sink.URL, err = parseSinkURL(sink.options["endpoint"]); err != nil {
			return Sink{}, fmt.Errorf("sink %q: endpoint: %w", words[0], err)
		}
	}
	return sink, nil
}

// redacted is a place without the credentials that don't belong there.
func redacted(place string) string {
	if u, err := url.Parse(place); err == nil && u.User != nil {
		u.User = url.User("***")
		return u.String()
	}
	return place
}

func parsePlace(place string) (Sink, error) {
	scheme, rest, _ := strings.Cut(place, ":")
	switch scheme {
	case SinkMaildir, SinkMbox, SinkFile, SinkETSI:
		if !path.IsAbs(rest) || path.Clean(rest) == "/" {
			return Sink{}, fmt.Errorf("write %s:/path", scheme)
		}
		return Sink{Type: scheme, Path: path.Clean(rest)}, nil
	case SinkSMTP:
		v, err := parseHostVia(scheme, place)
		if err == nil && v.Host == HostMX {
			err = errors.New("a sink has a host of its own: MX records are not asked")
		}
		return Sink{Type: scheme, Host: v.Host, Port: v.Port}, err
	case SinkS3:
		bucket, prefix, _ := strings.Cut(strings.TrimPrefix(rest, "//"), "/")
		if !strings.HasPrefix(rest, "//") || !plainKey(bucket) || strings.Contains(bucket, "/") || prefix != "" && !plainKey(prefix) {
			return Sink{}, errors.New("write s3://bucket or s3://bucket/prefix, of letters, digits and .-_/")
		}
		return Sink{Type: SinkS3, Bucket: bucket, Prefix: prefix}, nil
	case "https", "http":
		u, err := parseSinkURL(place)
		return Sink{Type: SinkWebhook, URL: u}, err
	case SinkKafka:
		return parseKafkaPlace(rest)
	}
	return Sink{}, errors.New("unknown: write maildir:/path, mbox:/path, file:/path, etsi:/path, smtp://host, s3://bucket, https://host/path or kafka://host:port/topic")
}

// plainKey reports whether s can stand in a key of an object store, and in its
// URL, without being written differently.
func plainKey(s string) bool {
	if s == "" || s[0] == '/' || s[len(s)-1] == '/' || strings.Contains(s, "//") || strings.Contains("/"+s+"/", "/../") || strings.Contains("/"+s+"/", "/./") {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(".-_/", r))
	})
}

// parseSinkURL reads https://host..., or http:// of a loopback address.
func parseSinkURL(s string) (string, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "", errors.New("no URL that can be read")
	case u.User != nil:
		return "", errors.New("credentials don't stand in a URL: they go into a file")
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Fragment != "":
		return "", fmt.Errorf("%q: write https://host/path", s)
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return "", fmt.Errorf("%q: copies are mail; plain http is for loopback addresses only", s)
	}
	return u.String(), nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func parseKafkaPlace(rest string) (Sink, error) {
	seeds, topic, _ := strings.Cut(strings.TrimPrefix(rest, "//"), "/")
	if !strings.HasPrefix(rest, "//") || !plainKey(topic) || strings.Contains(topic, "/") || len(topic) > 249 {
		return Sink{}, errors.New("write kafka://host:port,host:port/topic")
	}
	s := Sink{Type: SinkKafka, Topic: topic}
	for _, seed := range strings.Split(seeds, ",") {
		host, port, err := net.SplitHostPort(seed)
		if n, e := strconv.Atoi(port); err != nil || e != nil || n < 1 || n > 65535 {
			return Sink{}, fmt.Errorf("%q is no host:port", seed)
		}
		if host, err = parseHost(host); err != nil {
			return Sink{}, err
		}
		s.Seeds = append(s.Seeds, net.JoinHostPort(host, port))
	}
	return s, nil
}

func parseSinkOptions(typ string, words []string) (map[string]string, error) {
	given := map[string]string{}
	for _, w := range words {
		name, v, ok := strings.Cut(w, "=")
		if !ok || v == "" || !slices.Contains(sinkOptions[typ], name) {
			return nil, fmt.Errorf("unknown option %q; options of %s are: %s", name, typ, strings.Join(sinkOptions[typ], ", "))
		}
		if _, twice := given[name]; twice {
			return nil, fmt.Errorf("option %s is given twice", name)
		}
		if err := checkSinkOption(typ, name, v); err != nil {
			return nil, err
		}
		given[name] = v
	}
	needs := sinkNeeds[typ]
	if given["sasl"] != "" {
		needs = []string{"user", "password_file"}
	}
	for _, name := range needs {
		if given[name] == "" {
			return nil, fmt.Errorf("option %s is missing", name)
		}
	}
	if (given["user"] != "" || given["password_file"] != "") && given["sasl"] == "" {
		return nil, errors.New("user and password_file are for sasl")
	}
	if (given["cert_file"] == "") != (given["key_file"] == "") && typ == SinkKafka {
		return nil, errors.New("cert_file and key_file go together")
	}
	return given, nil
}

func checkSinkOption(typ, name, v string) error {
	choices := sinkChoices[typ+" "+name]
	if choices == nil {
		choices = sinkChoices[name]
	}
	switch {
	case choices != nil && !slices.Contains(choices, v):
		return fmt.Errorf("%s=%s: want %s", name, v, strings.Join(choices, ", "))
	case strings.HasSuffix(name, "_file") && !path.IsAbs(v):
		return fmt.Errorf("%s is no absolute path", name)
	case name == "to" || name == "from":
		_, err := parseMailbox(v)
		return err
	case name == "region" && !plainKey(v):
		return fmt.Errorf("region %q: letters, digits and -", v)
	}
	return nil
}

// String is the sink as a document writes it, its options in their order.
func (s Sink) String() string {
	var place string
	switch s.Type {
	case SinkSMTP:
		place = "smtp://" + net.JoinHostPort(s.Host, strconv.Itoa(s.Port))
	case SinkS3:
		place = "s3://" + s.Bucket
		if s.Prefix != "" {
			place += "/" + s.Prefix
		}
	case SinkWebhook:
		place = s.URL
	case SinkKafka:
		place = "kafka://" + strings.Join(s.Seeds, ",") + "/" + s.Topic
	default:
		place = s.Type + ":" + s.Path
	}
	for _, name := range sinkOptions[s.Type] {
		if v, ok := s.options[name]; ok {
			place += " " + name + "=" + v
		}
	}
	return place
}
