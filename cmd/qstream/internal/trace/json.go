package trace

import (
	"encoding/json"
	"io"
	"time"

	"qstream/schemas"
)

// lifeJSON is a life as JSON; events are as schemas.JSON writes them.
type lifeJSON struct {
	ID         string            `json:"id"`
	Parent     string            `json:"parent,omitempty"`
	From       string            `json:"reverse_path"`
	MessageID  string            `json:"header_message_id,omitempty"`
	Size       int64             `json:"size"`
	Recipients []recipientJSON   `json:"recipients"`
	Events     []json.RawMessage `json:"events"`
	DSNs       []lifeJSON        `json:"dsns,omitempty"`
}

type recipientJSON struct {
	Number   uint32     `json:"number"`
	Address  string     `json:"address"`
	State    State      `json:"state"`
	Final    bool       `json:"final"`
	At       time.Time  `json:"at"`
	Due      *time.Time `json:"due,omitempty"`
	Queue    string     `json:"queue,omitempty"`
	Code     uint32     `json:"code,omitempty"`
	Enhanced string     `json:"enhanced,omitempty"`
	Text     string     `json:"text,omitempty"`
	Host     string     `json:"host,omitempty"`
}

// JSON prints one line for each message that was found.
func JSON(w io.Writer, found Found) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, l := range found.Roots {
		out, err := l.json()
		if err != nil {
			return err
		}
		if err := enc.Encode(out); err != nil {
			return err
		}
	}
	return nil
}

func (l *Life) json() (lifeJSON, error) {
	first := l.first()
	out := lifeJSON{
		ID: l.ID, Parent: l.Parent, From: first.ReversePath, MessageID: first.HeaderMessageId, Size: first.Size,
		Recipients: []recipientJSON{}, Events: []json.RawMessage{},
	}
	for _, r := range l.Recipients {
		out.Recipients = append(out.Recipients, r.json())
	}
	for _, e := range l.Events {
		raw, err := schemas.JSON(e)
		if err != nil {
			return out, err
		}
		out.Events = append(out.Events, raw)
	}
	for _, child := range l.Children {
		c, err := child.json()
		if err != nil {
			return out, err
		}
		out.DSNs = append(out.DSNs, c)
	}
	return out, nil
}

func (r *Recipient) json() recipientJSON {
	out := recipientJSON{
		Number: r.Number, Address: r.Address, State: r.State, Final: r.State.Final(), At: r.At, Queue: r.Queue, Host: r.Host,
		Code: r.Status.GetCode(), Enhanced: r.Status.GetEnhanced(), Text: r.Status.GetText(),
	}
	if !r.Due.IsZero() {
		out.Due = &r.Due
	}
	return out
}
