package sinks

import (
	"context"
	"strings"
	"time"

	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/sink"
)

// etsiSink writes what happened as JSON lines, in the words of ETSI TS 102
// 232-2: event types, protocols and states. It is not the handover that the
// standard defines: no ASN.1, no HI2 and HI3. Content stays where it is and is
// referred to by message id and hash, except what is sealed, which is kept in
// a file.
type etsiSink struct{ folder }

func newETSI(spec sink.Spec) *etsiSink { return &etsiSink{newFolder(spec.Path, kindEvents)} }

func (s *etsiSink) Put(ctx context.Context, c sink.Copy) error {
	return s.put(ctx, &c, c.Sealed, func(m Manifest) any { return iri(&c, m) })
}

func (s *etsiSink) Close() error { return s.books.Close() }

// Words of TS 102 232-2. Those that a mailbox server has (download,
// partial-download, logon, ...) don't occur in a transfer agent.
const (
	emailSend    = "e-mail-send"
	emailReceive = "e-mail-receive"

	operationFailed    = "operation-failed"
	operationSucceeded = "operation-succeeded"
	statusUnknown      = "status-unknown"

	protocolSMTP      = "smtp"
	protocolUndefined = "undefined"
)

// record is a line.
type record struct {
	ID           string `json:"id"`
	Subscription string `json:"subscription"`
	Lane         string `json:"lane,omitempty"`
	Sequence     uint64 `json:"sequence"`
	Sealed       string `json:"sealed,omitempty"` // the file that holds the rest, and what it was written as
	SealedSize   int64  `json:"sealed_size,omitempty"`
	SealedSHA256 string `json:"sealed_sha256,omitempty"`

	EventType  string    `json:"eventType,omitempty"`
	Direction  string    `json:"direction,omitempty"` // "from-client": handed in by one of ours
	Protocol   string    `json:"protocolID,omitempty"`
	Status     string    `json:"status,omitempty"`
	Time       time.Time `json:"time,omitzero"`
	Client     string    `json:"client-Address,omitempty"`
	Server     string    `json:"server-Address,omitempty"`
	Sender     string    `json:"e-mail-Sender"`
	Validity   string    `json:"e-mail-Sender-Validity,omitempty"` // "validated": who sent it logged in
	User       string    `json:"user,omitempty"`
	Recipients []string  `json:"e-mail-Recipients,omitempty"`
	Count      int       `json:"total-Recipient-Count,omitempty"`
	MessageID  string    `json:"message-ID,omitempty"`
	Reply      string    `json:"reply,omitempty"` // of the first recipient
	Content    *content  `json:"content,omitempty"`
}

// content is where the content can be found.
type content struct {
	MessageID string `json:"message_id"` // ours
	Size      int64  `json:"size"`
	SHA256    string `json:"sha256"`
}

func iri(c *sink.Copy, m Manifest) record {
	r := record{ID: m.ID, Subscription: m.Subscription, Lane: m.Lane, Sequence: m.Sequence}
	if c.Sealed {
		r.Sealed, r.SealedSize, r.SealedSHA256 = m.File, m.FileSize, m.FileSHA256
		return r
	}
	r.Sender, r.MessageID, r.User = m.ReversePath, m.HeaderMessageID, m.User
	r.Client, r.Server, r.Time = m.Client, m.Edge, m.Accepted
	r.EventType, r.Direction, r.Validity = emailReceive, "to-server", "nonvalidated"
	if s := c.Received.GetSession(); s.GetTenant() != "" || s.GetAuthUser() != "" || s.GetRelay() {
		r.EventType, r.Direction = emailSend, "from-client"
	}
	if m.User != "" {
		r.Validity = "validated"
	}
	r.Protocol = protocolUndefined
	if m.Protocol == "SMTP" || m.Protocol == "LMTP" {
		r.Protocol = protocolSMTP
	}
	r.Status = operationSucceeded
	for _, to := range m.Recipients {
		r.Recipients = append(r.Recipients, to.Address)
	}
	if c.Kind == sink.Full {
		r.Content = &content{m.MessageID, m.Size, m.SHA256}
	}
	if m.Event != nil {
		r.outcome(c, m.Event)
	}
	r.Count = len(r.Recipients)
	return r
}

// outcome tells what became of the message instead of how it came.
func (r *record) outcome(c *sink.Copy, e *sink.EventInfo) {
	r.EventType, r.Time, r.Recipients = emailSend, e.At, nil
	if e.Host != "" || e.HostIP != "" {
		r.Server = strings.TrimSpace(e.Host + " " + e.HostIP)
	}
	for _, o := range e.Outcomes {
		r.Recipients = append(r.Recipients, o.Address)
	}
	switch c.Event.Type {
	case pb.EventType_EVENT_TYPE_DELIVERED:
		r.Status = operationSucceeded
	case pb.EventType_EVENT_TYPE_BOUNCED, pb.EventType_EVENT_TYPE_EXPIRED, pb.EventType_EVENT_TYPE_DISCARDED:
		r.Status = operationFailed
	default:
		r.Status = statusUnknown
	}
	if len(e.Outcomes) > 0 {
		o := e.Outcomes[0]
		r.Reply = strings.TrimSpace(o.Enhanced + " " + o.Text)
	}
}
