package milter

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"qstream/engine"
	"qstream/mail"
)

// maxField bounds a header field: more doesn't fit into a packet.
const maxField = 60 << 10

// maxLine is how far the colon of a field is looked for (RFC 5322 2.1.1).
const maxLine = 998

// errField is a field above maxField.
var errField = fmt.Errorf("a header field of more than %d bytes", maxField)

// scan goes through the protocol's steps until one decides.
func (s *session) scan(cfg *Config, content *engine.Content, f *engine.Facts) (engine.Verdict, error) {
	var v engine.Verdict
	done, err := s.envelope(cfg, f, &v)
	if done || err != nil {
		return v, err
	}
	in := bufio.NewReaderSize(content, maxBody)
	done, err = s.header(in, &v)
	if errors.Is(err, errField) {
		// The filter is left without an end of body.
		return engine.Verdict{Outcome: engine.Unscannable, Reason: engine.TooLarge, Detail: errField.Error()}, nil
	}
	if err == nil && !done {
		done, err = s.body(in, &v)
	}
	if content.Err() != nil {
		return v, engine.Fail(engine.Unreadable, "read content: %w", content.Err())
	}
	if done || err != nil {
		return v, err
	}
	if err := s.macros(cmdEOB, "i", f.MessageID); err != nil {
		return v, err
	}
	return v, s.end(&v)
}

// envelope is everything before the header. done says that v is final.
func (s *session) envelope(cfg *Config, f *engine.Facts, v *engine.Verdict) (done bool, err error) {
	addr := ""
	if f.Client.IsValid() {
		addr = f.Client.Unmap().String()
	}
	name := f.ClientName
	if name == "" {
		name = "[" + addr + "]"
	}
	sender := "<" + f.ReversePath + ">"
	for _, step := range []struct {
		code   byte
		macros []string
		data   []byte
	}{
		{cmdConnect, []string{"j", cfg.Hostname, "{client_addr}", addr, "{client_name}", name, "v", "qstream"}, connect(name, f)},
		{cmdHelo, nil, text(f.HELO)},
		{cmdMail, []string{"i", f.MessageID, "{mail_addr}", f.ReversePath, "{auth_authen}", f.User}, text(sender)},
	} {
		if err := s.macros(step.code, step.macros...); err != nil {
			return false, err
		}
		p, err := s.step(step.code, step.data)
		if err != nil {
			return false, err
		}
		if done, err := decide(p, v); done || err != nil {
			return done, err
		}
	}
	if done, err := s.recipients(f, v); done || err != nil {
		return done, err
	}
	if err := s.macros(cmdData, "i", f.MessageID); err != nil {
		return false, err
	}
	p, err := s.step(cmdData, nil)
	if err != nil {
		return false, err
	}
	return decide(p, v)
}

// recipients asks for each; a refusal is of that one only, until none is left.
func (s *session) recipients(f *engine.Facts, v *engine.Verdict) (done bool, err error) {
	for i, r := range f.Recipients {
		if err := s.macros(cmdRcpt, "i", f.MessageID, "{rcpt_addr}", r); err != nil {
			return false, err
		}
		p, err := s.step(cmdRcpt, text("<"+r+">"))
		if err != nil {
			return false, err
		}
		var one engine.Verdict
		if done, err = decide(p, &one); err != nil {
			return false, err
		}
		if done && (one.Outcome != engine.Refused || one.Advice != engine.Refuse) {
			one.Refusals = v.Refusals
			*v = one
			return true, nil
		}
		if done {
			v.Refusals = append(v.Refusals, engine.Refusal{Recipient: i, Status: one.Status})
		}
	}
	if n := len(v.Refusals); n > 0 && n == len(f.Recipients) {
		*v = engine.Verdict{Outcome: engine.Refused, Advice: engine.Refuse, Status: v.Refusals[0].Status, Refusals: v.Refusals,
			Detail: "every recipient is refused"}
		return true, nil
	}
	return false, nil
}

// connect is the connection's data: host name, family, port, address.
func connect(name string, f *engine.Facts) []byte {
	b := text(name)
	ip := f.Client.Unmap()
	if !ip.IsValid() {
		return append(b, 'U')
	}
	family := byte('6')
	if ip.Is4() {
		family = '4'
	}
	b = append(b, family, 0, 0) // the port isn't known
	return append(b, text(ip.WithZone("").String())...)
}

// header sends the fields. What is no field begins the body.
func (s *session) header(in *bufio.Reader, v *engine.Verdict) (done bool, err error) {
	for {
		name, value, err := field(in)
		if err != nil {
			return false, err
		}
		if name == "" {
			p, err := s.step(cmdEOH, nil)
			if err != nil {
				return false, err
			}
			return decide(p, v)
		}
		if s.protocol&leadingBlank == 0 && len(value) > 0 && (value[0] == ' ' || value[0] == '\t') {
			value = value[1:]
		}
		p, err := s.step(cmdHeader, append(text(name), text(value)...))
		if err != nil {
			return false, err
		}
		if done, err := decide(p, v); done || err != nil {
			return done, err
		}
	}
}

// field reads one field; an empty name is the end of the header, and its empty
// line is read. Lines of the value are ended by LF, as filters know them.
func field(in *bufio.Reader) (name, value string, err error) {
	start, err := in.Peek(maxLine)
	if len(start) == 0 || err != nil && err != io.EOF {
		return "", "", end(err)
	}
	if start[0] == '\r' || start[0] == '\n' {
		_, err := in.ReadSlice('\n')
		return "", "", end(err)
	}
	if i := bytes.IndexByte(start, ':'); i <= 0 || bytes.ContainsAny(start[:i], " \t\r\n") {
		return "", "", nil
	}
	var all []byte
	for {
		line, err := in.ReadSlice('\n')
		all = append(all, bytes.TrimRight(line, "\r\n")...)
		if len(all) > maxField || errors.Is(err, bufio.ErrBufferFull) {
			return "", "", errField
		}
		if err != nil && err != io.EOF {
			return "", "", err
		}
		next, _ := in.Peek(1)
		if len(next) == 0 || next[0] != ' ' && next[0] != '\t' {
			break
		}
		all = append(all, '\n')
	}
	n, val, _ := bytes.Cut(all, []byte(":"))
	return string(n), string(val), nil
}

// end is an error other than the end of content.
func end(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// body sends the rest. Skip means that the filter has seen enough of it.
func (s *session) body(in io.Reader, v *engine.Verdict) (done bool, err error) {
	buf := make([]byte, maxBody)
	for {
		n, readErr := io.ReadFull(in, buf)
		if readErr != nil && readErr != io.EOF && readErr != io.ErrUnexpectedEOF {
			return false, readErr
		}
		if n > 0 {
			p, err := s.step(cmdBody, buf[:n])
			if err != nil || p.code == saysSkip {
				return false, err
			}
			if done, err := decide(p, v); done || err != nil {
				return done, err
			}
		}
		if readErr != nil {
			return false, nil
		}
	}
}

// end asks for the verdict, before which changes come.
func (s *session) end(v *engine.Verdict) error {
	if err := s.write(cmdEOB, nil); err != nil {
		return err
	}
	held := ""
	quarantine := false
	for {
		p, err := s.read()
		if err != nil {
			return err
		}
		switch p.code {
		case saysAdd, saysInsert, saysChange:
			c, err := change(p)
			if err != nil {
				return err
			}
			if len(v.Changes) == engine.MaxChanges {
				return engine.Fail(engine.Broken, "the filter wants more than %d header changes", engine.MaxChanges)
			}
			v.Changes = append(v.Changes, c)
			continue
		case saysQuarantine:
			held, quarantine = engine.Text(string(bytes.TrimRight(p.data, "\x00"))), true
			continue
		}
		done, err := decide(p, v)
		if err != nil {
			return err
		}
		if !done || v.Outcome == engine.Clean {
			v.Outcome = engine.Clean
			if quarantine {
				v.Outcome, v.Advice, v.Detail = engine.Refused, engine.Quarantine, held
			}
		}
		return nil
	}
}

// decide reads an answer. done says that it ends the message.
func decide(p packet, v *engine.Verdict) (done bool, err error) {
	switch p.code {
	case saysContinue:
		return false, nil
	case saysAccept:
		v.Outcome = engine.Clean
	case saysReject:
		refuse(v, mail.Status{Code: 550, Enhanced: "5.7.1", Text: "refused by a filter"})
	case saysTempfail:
		refuse(v, mail.Status{Code: 451, Enhanced: "4.7.1", Text: "put off by a filter"})
	case saysDiscard:
		v.Outcome, v.Advice = engine.Refused, engine.Discard
	case saysReply:
		st, ok := status(p.data)
		if !ok {
			return false, engine.Fail(engine.Broken, "the filter wants the reply %q", engine.Text(string(p.data)))
		}
		refuse(v, st)
	default:
		return false, engine.Fail(engine.Broken, "the filter says %q", p.code)
	}
	return true, nil
}

// refuse is a refusal for good, or a failure that may pass.
func refuse(v *engine.Verdict, st mail.Status) {
	v.Status, v.Detail = st, engine.Text(st.String())
	if st.Permanent() {
		v.Outcome, v.Advice = engine.Refused, engine.Refuse
		return
	}
	v.Outcome, v.Reason, v.Advice = engine.Failed, engine.Trouble, engine.Defer
}

// change reads a change of the header.
func change(p packet) (engine.Change, error) {
	kind, index, data := engine.AddField, 0, p.data
	if p.code != saysAdd {
		if len(data) < 4 {
			return engine.Change{}, engine.Fail(engine.Broken, "the filter wants a header change of %d bytes", len(data))
		}
		index, data = int(min(binary.BigEndian.Uint32(data), 1<<20)), data[4:]
		kind = engine.InsertField
	}
	name, rest, _ := bytes.Cut(data, []byte{0})
	value, _, ended := bytes.Cut(rest, []byte{0})
	if !ended {
		return engine.Change{}, engine.Fail(engine.Broken, "the filter wants a header change without an end")
	}
	if p.code == saysChange {
		kind = engine.ReplaceField
		if len(value) == 0 {
			kind = engine.DeleteField
		}
	}
	c, err := engine.NewChange(kind, index, string(name), string(value))
	if err != nil {
		return c, engine.Fail(engine.Broken, "the filter wants a header changed: %w", err)
	}
	return c, nil
}
