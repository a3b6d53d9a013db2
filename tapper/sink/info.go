package sink

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// Info is what JSON tells of a copy, the same at every sink. Texts are as they
// came in: hostile.
type Info struct {
	ID           string `json:"id"`
	Subscription string `json:"subscription"`
	Lane         string `json:"lane,omitempty"`
	Sequence     uint64 `json:"sequence"`
	Kind         string `json:"kind"`
	Sealed       bool   `json:"sealed,omitempty"`

	MessageID       string          `json:"message_id,omitempty"`
	Accepted        time.Time       `json:"accepted,omitzero"`
	ReversePath     string          `json:"reverse_path"`
	Recipients      []RecipientInfo `json:"recipients,omitempty"`
	HeaderMessageID string          `json:"header_message_id,omitempty"`
	Size            int64           `json:"size,omitempty"`   // of the content, without what was put before it
	SHA256          string          `json:"sha256,omitempty"` // of the same
	Protocol        string          `json:"protocol,omitempty"`
	Client          string          `json:"client,omitempty"`
	ClientName      string          `json:"client_name,omitempty"`
	HELO            string          `json:"helo,omitempty"`
	User            string          `json:"user,omitempty"`
	TLS             string          `json:"tls,omitempty"`
	Edge            string          `json:"edge,omitempty"`
	Directory       uint64          `json:"directory,omitempty"`

	Event *EventInfo `json:"event,omitempty"`
}

// RecipientInfo is a recipient that the copy is for.
type RecipientInfo struct {
	Number   uint32 `json:"number"`
	Address  string `json:"address"`
	Original string `json:"original,omitempty"` // ORCPT, "rfc822;address"
}

// EventInfo is what became of a message.
type EventInfo struct {
	ID          string        `json:"id"`
	Type        string        `json:"type"`
	At          time.Time     `json:"at"`
	Attempt     uint32        `json:"attempt,omitempty"`
	Destination string        `json:"destination,omitempty"`
	Host        string        `json:"host,omitempty"`
	HostIP      string        `json:"host_ip,omitempty"`
	TLS         string        `json:"tls,omitempty"`
	Outcomes    []OutcomeInfo `json:"outcomes,omitempty"`
	Text        string        `json:"text,omitempty"`
}

// OutcomeInfo is a recipient's part of an event.
type OutcomeInfo struct {
	Number   uint32 `json:"number"`
	Address  string `json:"address"`
	Code     uint32 `json:"code,omitempty"`
	Enhanced string `json:"enhanced,omitempty"`
	Text     string `json:"text,omitempty"`
}

// Info tells of the copy.
func (c *Copy) Info() Info {
	i := Info{
		ID: c.ID, Subscription: c.Subscription, Lane: c.Lane, Sequence: c.Sequence, Kind: c.Kind.String(), Sealed: c.Sealed,
	}
	if c.Sealed {
		return i
	}
	i.MessageID, i.Accepted = c.MessageID, c.Accepted.UTC()
	for _, r := range c.Recipients {
		i.Recipients = append(i.Recipients, RecipientInfo{r.Number, r.Address, r.Orcpt})
	}
	if r := c.Received; r != nil {
		i.ReversePath, i.HeaderMessageID, i.Directory = r.GetEnvelope().GetReversePath(), r.HeaderMessageId, r.Directory
		i.Size, i.SHA256 = r.GetContent().GetSize(), fmt.Sprintf("%x", r.GetContent().GetSha256())
		i.session(r.GetSession())
	}
	if e := c.Event; e != nil {
		i.Event = event(e)
	}
	return i
}

func (i *Info) session(s *pb.Session) {
	if p := s.GetProtocol(); p != pb.Protocol_PROTOCOL_UNSPECIFIED {
		i.Protocol = strings.TrimPrefix(p.String(), "PROTOCOL_")
	}
	i.Client, i.ClientName, i.HELO = s.GetClientIp(), s.GetClientName(), s.GetHelo()
	i.User, i.TLS, i.Edge = s.GetAuthUser(), s.GetTlsVersion(), s.GetEdge()
}

func event(e *pb.Event) *EventInfo {
	i := &EventInfo{
		ID: e.Id, Type: strings.ToLower(strings.TrimPrefix(e.Type.String(), "EVENT_TYPE_")), At: time.UnixMilli(e.AtMs).UTC(),
		Attempt: e.Attempt, Destination: e.Destination, Host: e.Host, HostIP: e.HostIp, TLS: e.TlsVersion, Text: e.Text,
	}
	for _, o := range e.Outcomes {
		i.Outcomes = append(i.Outcomes, OutcomeInfo{
			o.Number, o.Address, o.GetStatus().GetCode(), o.GetStatus().GetEnhanced(), o.GetStatus().GetText(),
		})
	}
	return i
}

// JSON is the Info as one line without its end.
func (c *Copy) JSON() ([]byte, error) {
	line, err := json.Marshal(c.Info())
	if err != nil {
		return nil, fmt.Errorf("tell of copy %s: %w", mail.Printable(c.ID), err)
	}
	return line, nil
}
