package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"qstream/mail"
	"qstream/tapper/sink/sinks"
)

// tapArchiveVerifyCmd checks a folder; it needs no system.
type tapArchiveVerifyCmd struct {
	Folder string `arg:"" type:"existingdir" help:"Folder of a sink file:PATH or etsi:PATH."`
	Last   bool   `help:"Print the hash of each book's last line, to be noted elsewhere."`
	Noted  string `placeholder:"FILE" type:"existingfile" help:"Want the lines that --last printed into this file, now or later, in their books still."`
	JSON   bool   `name:"json" help:"Print JSON."`
}

func (c *tapArchiveVerifyCmd) Run(_ context.Context, p *Process) error {
	noted, err := readNoted(c.Noted)
	if err != nil {
		return err
	}
	found, err := sinks.Verify(c.Folder, noted)
	if err != nil {
		return err
	}
	wrong := len(found.Wrong) + found.WrongMore
	switch {
	case c.JSON:
		err = printJSON(p.Stdout, found)
	case wrong > 0:
		c.printWrong(p, found)
	default:
		c.print(p, found)
	}
	if err == nil && wrong > 0 {
		err = fmt.Errorf("%s is not as it was written: %d differences", c.Folder, wrong)
	}
	return err
}

func (c *tapArchiveVerifyCmd) printWrong(p *Process, found sinks.Checked) {
	for _, what := range found.Wrong {
		fmt.Fprintln(p.Stdout, "WRONG", mail.Printable(what))
	}
	if found.WrongMore > 0 {
		fmt.Fprintf(p.Stdout, "and %d more\n", found.WrongMore)
	}
}

func (c *tapArchiveVerifyCmd) print(p *Process, found sinks.Checked) {
	if m := found.Manifests; m.Books > 0 {
		fmt.Fprintf(p.Stdout, "%d copies in %d manifests, %d files: as they were written\n", m.Lines, m.Books, m.Files)
	}
	if e := found.Events; e.Books > 0 {
		fmt.Fprintf(p.Stdout, "%d records in %d books of events, %d files: as they were written\n", e.Lines, e.Books, e.Files)
	}
	if found.Unhashed > 0 {
		fmt.Fprintf(p.Stdout, "%d of the files have no hash in their record: that they are there is all that was checked\n", found.Unhashed)
	}
	for _, what := range found.Begins {
		fmt.Fprintf(p.Stdout, "%s: what came before isn't in this folder\n", mail.Printable(what))
	}
	if c.Last {
		for _, book := range found.Names() {
			fmt.Fprintf(p.Stdout, "%s  %s\n", found.Last[book], mail.Printable(book))
		}
	}
}

// readNoted reads what --last printed, by book; other lines are passed over. No
// file: nothing was noted.
func readNoted(file string) (map[string][]string, error) {
	if file == "" {
		return nil, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	noted := map[string][]string{}
	in := bufio.NewScanner(f)
	for in.Scan() {
		hash, book, ok := strings.Cut(in.Text(), "  ")
		if sum, err := hex.DecodeString(hash); ok && err == nil && len(sum) == 32 && book != "" {
			noted[book] = append(noted[book], hash)
		}
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	if len(noted) == 0 {
		return nil, usagef("--noted: %s holds no line that --last printed", file)
	}
	return noted, nil
}
