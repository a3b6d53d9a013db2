package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"qstream/directory"
	"qstream/mail"
	"qstream/tapper/archive"
)

// tapArchiveCmd are the verbs about archives.
type tapArchiveCmd struct {
	List   tapArchiveListCmd   `cmd:"" help:"List archives: whose mail, where to, how far behind, and what is wrong."`
	Show   tapArchiveShowCmd   `cmd:"" help:"Show one archive."`
	Verify tapArchiveVerifyCmd `cmd:"" help:"Check the folder of a file or etsi sink: that no record and no file is missing or changed."`
}

// tapArchiveListCmd lists archives.
type tapArchiveListCmd struct {
	System
	Tenant string `placeholder:"NAME" help:"Of this tenant."`
	JSON   bool   `name:"json" help:"Print JSON."`
}

// archived is an archive as it is shown.
type archived struct {
	Name      string     `json:"name"`
	Tenant    string     `json:"tenant,omitempty"`
	Queue     string     `json:"queue,omitempty"`
	Domains   []string   `json:"domains,omitempty"`
	Direction string     `json:"direction"`
	Envelope  bool       `json:"envelope,omitempty"`
	Reports   bool       `json:"reports,omitempty"`
	Sink      string     `json:"sink"`
	Lag       int64      `json:"lag"`
	Oldest    *time.Time `json:"oldest,omitempty"`
	Failing   *time.Time `json:"failing_since,omitempty"`
	Error     string     `json:"error,omitempty"`
}

func (c *tapArchiveListCmd) Run(ctx context.Context, p *Process) error {
	shown, err := archives(ctx, c.System, c.Tenant, func(a *directory.Archive) bool { return c.Tenant == "" || a.Tenant == c.Tenant })
	if err != nil {
		return err
	}
	if c.JSON {
		if err := printJSON(p.Stdout, shown); err != nil {
			return err
		}
	}
	if len(shown) == 0 {
		return c.none()
	}
	if c.JSON {
		return nil
	}
	return archiveTable(p.Stdout, shown, p.Now())
}

// none says that there is no archive, of whom it was asked for.
func (c *tapArchiveListCmd) none() error {
	of := ""
	if c.Tenant != "" {
		of = " of tenant " + mail.Printable(c.Tenant)
	}
	return notFoundf("there is no archive%s; a document of kind archive makes one: qstream apply", of)
}

// tapArchiveShowCmd shows one archive.
type tapArchiveShowCmd struct {
	System
	Name string `arg:"" help:"The archive."`
	JSON bool   `name:"json" help:"Print JSON."`
}

func (c *tapArchiveShowCmd) Run(ctx context.Context, p *Process) error {
	shown, err := archives(ctx, c.System, "", func(a *directory.Archive) bool { return a.Name == c.Name })
	switch {
	case err != nil:
		return err
	case len(shown) == 0:
		return notFoundf("there is no archive %s; those there are: qstream tap archive list", mail.Printable(c.Name))
	case c.JSON:
		return printJSON(p.Stdout, shown[0])
	}
	return archiveTable(p.Stdout, shown, p.Now())
}

// archives are those of the directory that are meant, with what the broker
// tells. A tenant that is named must be there.
func archives(ctx context.Context, system System, tenant string, meant func(*directory.Archive) bool) ([]archived, error) {
	b, err := system.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	if err := (scopeFlags{Tenant: tenant}).known(ctx, b); err != nil {
		return nil, err
	}
	snapshot, err := directory.Read(ctx, b)
	if err != nil {
		return nil, err
	}
	shown, names := []archived{}, []string{}
	for _, a := range snapshot.Archives() {
		if meant(a) {
			names = append(names, a.Name)
			shown = append(shown, archived{
				Name: a.Name, Tenant: a.Tenant, Queue: a.Queue, Domains: a.Domains, Direction: a.Direction,
				Envelope: a.Envelope, Reports: a.Reports, Sink: a.Sink.String(),
			})
		}
	}
	if len(names) == 0 {
		return shown, nil
	}
	states, err := archive.States(ctx, b, names)
	if err != nil {
		return nil, err
	}
	for i := range shown {
		s := states[shown[i].Name]
		shown[i].Lag, shown[i].Error = s.Lag, mail.Printable(s.Error)
		if !s.Oldest.IsZero() {
			shown[i].Oldest = &s.Oldest
		}
		if !s.Failing.IsZero() {
			shown[i].Failing = &s.Failing
		}
	}
	return shown, nil
}

func archiveTable(w io.Writer, shown []archived, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tOF\tDIRECTION\tLAG\tOLDEST\tFAILING FOR\tSINK\tERROR")
	for _, a := range shown {
		oldest, failing := "-", "-"
		if a.Oldest != nil {
			oldest = age(*a.Oldest, now)
		}
		if a.Failing != nil {
			failing = age(*a.Failing, now)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", a.Name, a.of(), a.Direction, a.Lag, oldest, failing, a.Sink, a.Error)
	}
	return t.Flush()
}

// of says whose mail it is.
func (a archived) of() string {
	var parts []string
	if a.Tenant != "" {
		parts = append(parts, "tenant "+a.Tenant)
	}
	if a.Queue != "" {
		parts = append(parts, "queue "+a.Queue)
	}
	if len(a.Domains) > 0 {
		parts = append(parts, strings.Join(a.Domains, " "))
	}
	if len(parts) == 0 {
		return "all"
	}
	return strings.Join(parts, ", ")
}
