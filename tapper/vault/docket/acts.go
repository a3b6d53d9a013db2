package docket

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/vault/sealed"
)

// maxActText bounds a text of the audit.
const maxActText = 500

// Note puts an act into the audit and returns once it counts there, so that
// nothing is shown or done that isn't told. id and time are filled in.
func (d *Docket) Note(ctx context.Context, a *pb.TapAct) error {
	now := d.cfg.Now()
	a.Id, a.AtMs = mail.NewID(now), now.UnixMilli()
	for _, text := range []*string{&a.Officer, &a.Action, &a.Subject, &a.Detail, &a.Refused, &a.Client} {
		*text = mail.Printable(strings.ToValidUTF8(*text, "?"))
		if len(*text) > maxActText {
			*text = strings.ToValidUTF8((*text)[:maxActText], "")
		}
	}
	entry, err := proto.Marshal(a)
	if err != nil {
		return fmt.Errorf("encode the act: %w", err)
	}
	return d.wait(ctx, d.acts, entry)
}

// Act is an act with the place at which it stands.
type Act struct {
	*pb.TapAct
	Place sealed.Place
}

// lateness is how long an act may wait for its place.
const lateness = 10 * time.Minute

// Acts calls each for the acts between two times, in their order; a zero time is
// no bound. What can't be read is passed over.
func (d *Docket) Acts(ctx context.Context, since, until time.Time, each func(Act) error) error {
	from := bus.Start{}
	if !since.IsZero() {
		from.Since = since.Add(-lateness)
	}
	seen := map[string]bool{}
	return sealed.Read(ctx, d.cfg.Bus, d.cfg.Folder.Keys, schemas.VaultAudit, from, func(t sealed.Taken) error {
		for _, entry := range t.Entries {
			a := &pb.TapAct{}
			if len(entry) == 0 || proto.Unmarshal(entry, a) != nil || seen[a.Id] {
				continue
			}
			at := time.UnixMilli(a.AtMs)
			if at.Before(since) || !until.IsZero() && !at.Before(until) {
				continue
			}
			seen[a.Id] = true
			if err := each(Act{a, t.Place}); err != nil {
				return err
			}
		}
		return nil
	})
}
