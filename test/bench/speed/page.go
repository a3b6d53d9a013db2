package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// The tables of a page stand between these lines.
const (
	beginning = "<!-- speed: begin -->"
	ending    = "<!-- speed: end -->"
)

// writePage replaces what stands between a page's markers.
func writePage(file, text string) error {
	page, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	out, err := between(string(page), text)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(out), 0o644)
}

func between(page, text string) (string, error) {
	before, rest, ok := strings.Cut(page, beginning)
	_, after, ok2 := strings.Cut(rest, ending)
	if !ok || !ok2 {
		return "", fmt.Errorf("no %q and %q", beginning, ending)
	}
	return before + beginning + "\n" + strings.TrimRight(text, "\n") + "\n" + ending + after, nil
}

// environment says where and when the runs were.
func environment(all []run) string {
	if len(all) == 0 {
		return ""
	}
	first, last := all[0].At, all[0].At
	for _, r := range all {
		if r.At.Before(first) {
			first = r.At
		}
		if r.At.After(last) {
			last = r.At
		}
	}
	var foreign []float64
	for _, r := range all {
		foreign = append(foreign, 100*r.Foreign)
	}
	return fmt.Sprintf("Machine: %d processors (%s), %s of memory, %s, %s, Postfix %s. Runs from %s to %s UTC. "+
		"Share of the machine that went to other processes and to kernel threads, in percent: %v.\n\n",
		runtime.NumCPU(), field("/proc/cpuinfo", "model name"), field("/proc/meminfo", "MemTotal"),
		said("uname", "-sr"), runtime.Version(), said("/usr/sbin/postconf", "-hd", "mail_version"),
		first.Format("2006-01-02 15:04"), last.Format("2006-01-02 15:04"), over(foreign))
}

// field is the value of a key in a file of /proc.
func field(file, key string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// said is the first line that a command prints.
func said(command string, args ...string) string {
	out, err := exec.Command(command, args...).Output()
	if err != nil {
		return command + " unknown"
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}

// readRuns reads the file of -json; none is no error.
func readRuns(file string) ([]run, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []run
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		var r run
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, n, err)
		}
		all = append(all, r)
	}
	return all, lines.Err()
}

func appendRun(file string, r run) error {
	if file == "" {
		return nil
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	return errors.Join(err, f.Close())
}

// lastRound is the highest round among runs, so that new ones get others.
func lastRound(all []run) int {
	n := 0
	for _, r := range all {
		n = max(n, r.Round)
	}
	return n
}
