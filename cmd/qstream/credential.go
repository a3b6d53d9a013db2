package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/goccy/go-yaml"
	"golang.org/x/term"

	"qstream/directory"
	"qstream/directory/password"
)

// credentialCmd makes a document of a user from a password. It asks nothing
// of a system, and keeps nothing.
type credentialCmd struct {
	User    string   `arg:"" help:"Name that the user signs in by."`
	Tenant  string   `required:"" placeholder:"NAME" help:"Whose mail the user submits."`
	Senders []string `placeholder:"ADDRESS" help:"Reverse-paths: addresses, @domain, or tenant for all its domains (default: the user's name)."`
	Stdin   bool     `help:"Read the password from standard input, one line, even from a terminal."`
	NoSCRAM bool     `name:"no-scram" help:"Leave out the verifier for SCRAM-SHA-256."`
}

func (c *credentialCmd) Run(_ context.Context, p *Process) error {
	text, err := c.read(p)
	if err != nil {
		return err
	}
	prepared, err := password.Prepare(text)
	if err != nil {
		return usagef("%w", err)
	}
	user, err := directory.NormalUser(c.User)
	if err != nil {
		return usagef("%w", err)
	}
	doc := yaml.MapSlice{
		{Key: "kind", Value: directory.KindCredential}, {Key: "name", Value: user}, {Key: "tenant", Value: c.Tenant},
		{Key: "password", Value: password.New(prepared).String()},
	}
	if !c.NoSCRAM {
		doc = append(doc, yaml.MapItem{Key: "scram_sha_256", Value: password.NewVerifier(prepared).String()})
	}
	if len(c.Senders) > 0 {
		doc = append(doc, yaml.MapItem{Key: "senders", Value: c.Senders})
	}
	out, err := yaml.Marshal(doc)
	if err != nil {
		return fmt.Errorf("write the document: %w", err)
	}
	if _, err := directory.Parse(directory.File{Name: "the document", Data: out}); err != nil {
		return usagef("%w", err)
	}
	_, err = p.Stdout.Write(out)
	return err
}

// read asks for the password twice where a person types it, unseen.
func (c *credentialCmd) read(p *Process) (string, error) {
	in, ok := p.Stdin.(*os.File)
	if c.Stdin || !ok || !term.IsTerminal(int(in.Fd())) {
		line, err := bufio.NewReader(io.LimitReader(p.Stdin, 1<<16)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read the password: %w", err)
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	var typed [2]string
	for i, prompt := range []string{"Password: ", "Again: "} {
		fmt.Fprint(p.Stderr, prompt)
		text, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(p.Stderr)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		typed[i] = string(text)
	}
	if typed[0] != typed[1] {
		return "", usagef("the passwords differ")
	}
	return typed[0], nil
}
