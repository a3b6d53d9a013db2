package audit

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"qstream/mail"
)

// Text prints a report for people.
func Text(w io.Writer, r *Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "born\ttenant\taccepted\texpanded\tgenerated\tearlier\t=\tdelivered\tbounced\texpired\tdiscarded\twaiting\tmissing\t")
	for _, h := range r.Hours {
		line(t, h.Hour.Format("2006-01-02 15:04"), named(h.Tenant), h.Count)
	}
	line(t, "all", "", r.Total)
	if err := t.Flush(); err != nil {
		return err
	}
	b := &strings.Builder{}
	fmt.Fprint(b, "\nwaiting:")
	for i, p := range places {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(b, " %s %d", p, r.Waiting[p])
	}
	if r.Unreadable > 0 {
		fmt.Fprintf(b, "; records that can't be read: %d", r.Unreadable)
	}
	b.WriteByte('\n')
	for _, f := range r.Findings {
		b.WriteString(f.line())
	}
	for _, g := range r.Gaps {
		b.WriteString(g.line())
	}
	verdict := "balanced"
	if !r.Balanced {
		verdict = fmt.Sprintf("NOT BALANCED: %d missing, %d ended more than once, %d wait though they ended, %d unannounced, %d gaps",
			r.Of(Missing), r.Of(Repeated), r.Of(Undead), r.Of(Unannounced), len(r.Gaps))
	}
	fmt.Fprintf(b, "%s (%d recipients, %v)\n", verdict, r.Total.opened(), (time.Duration(r.TookMs) * time.Millisecond).Round(10*time.Millisecond))
	_, err := io.WriteString(w, b.String())
	return err
}

func line(w io.Writer, hour, tenant string, c Count) {
	fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t=\t%d\t%d\t%d\t%d\t%d\t%d\t\n", hour, tenant,
		c.Accepted, c.Expanded, c.Generated, c.Earlier, c.Delivered, c.Bounced, c.Expired, c.Discarded, c.Waiting, c.Missing)
}

// named is a tenant as it is shown; before the router there is none yet.
func named(tenant string) string {
	if tenant == "" {
		return "-"
	}
	return mail.Printable(tenant)
}

var words = map[string]string{
	Missing: "missing", Repeated: "ended more than once", Undead: "waits though it ended", Unannounced: "unannounced",
}

func (f Finding) line() string {
	s := fmt.Sprintf("%s: %s recipient %d <%s> of tenant %s, queue %s: ", words[f.What], f.MessageID, f.Recipient,
		mail.Printable(f.Address), named(f.Tenant), named(f.Queue))
	if f.LastEvent == "" {
		s += "no event"
	} else {
		s += fmt.Sprintf("last event %s at %s", f.LastEvent, f.LastAt.UTC().Format(time.RFC3339))
	}
	if f.Ends > 1 {
		s += fmt.Sprintf(", %d ends", f.Ends)
	}
	return s + ", last seen at " + mail.Printable(f.LastSeen) + "\n"
}

func (g Gap) line() string {
	if g.Partition < 0 {
		return fmt.Sprintf("gap: %s is gone, which %s reads\n", g.Topic, g.Group)
	}
	return fmt.Sprintf("gap: %s/%d: %s goes on at %d, the log holds %d to %d\n", g.Topic, g.Partition, g.Group, g.Commit, g.Start, g.End)
}
