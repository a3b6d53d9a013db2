package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"qstream/replay"
)

// rescanTable prints for people what came of scanning again.
func rescanTable(w io.Writer, r replay.Results, found []replay.Finding) error {
	found = slices.Clone(found)
	slices.SortFunc(found, func(a, b replay.Finding) int {
		if c := strings.Compare(a.Outcome, b.Outcome); c != 0 {
			return c
		}
		return strings.Compare(a.MessageID, b.MessageID)
	})
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(found) > 0 {
		fmt.Fprintln(t, "MESSAGE\tLEG\tTENANT\tOUTCOME\tMAIL\tWHAT\tTO")
	}
	for _, f := range found {
		was := "delivered"
		if f.Waiting {
			was = "waited"
		}
		to := "-"
		if len(f.Recipients) > 0 {
			to = andMore(f.Recipients[0], len(f.Recipients))
		}
		fmt.Fprintln(t, strings.Join([]string{f.MessageID, fmt.Sprint(f.Leg), shown(f.Tenant), shown(f.Outcome), was, shown(f.Text), to}, "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "%d legs offered: %d clean, %d bad, %d unscannable, %d without a policy, %d not scanned, %d left\n",
		r.Offered, r.Clean, r.Delivered+r.Waiting, r.Unscannable, r.Unwanted, r.NotScanned, r.Left)
	if r.Delivered > 0 {
		fmt.Fprintf(w, "bad and delivered: %d\n", r.Delivered)
	}
	if r.Waiting > 0 {
		fmt.Fprintf(w, "bad and waiting: %d, scanned again before they are delivered; in quarantine by now: %d, delivered meanwhile: %d\n",
			r.Waiting, r.Quarantined, r.Escaped)
	}
	if r.Told > 0 {
		fmt.Fprintf(w, "told before, by an earlier job: %d\n", r.Told)
	}
	return nil
}
