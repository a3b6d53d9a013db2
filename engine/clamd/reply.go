package clamd

import (
	"strings"
	"time"

	"qstream/engine"
)

// verdict reads the reply to INSTREAM, without its number (clamd(8),
// clamd/session.c): "stream: OK", "stream: NAME FOUND", "... ERROR".
func verdict(reply string) (engine.Verdict, error) {
	if reply == "stream: OK" {
		return engine.Verdict{Outcome: engine.Clean}, nil
	}
	if text, ok := strings.CutSuffix(reply, " ERROR"); ok {
		return trouble(text)
	}
	name, found := strings.CutSuffix(reply, " FOUND")
	name, stream := strings.CutPrefix(name, "stream: ")
	if !found || !stream || name == "" {
		return engine.Verdict{}, engine.Fail(engine.Broken, "clamd says %q", engine.Text(reply))
	}
	v := engine.Verdict{Outcome: engine.Malware, Name: engine.Text(name)}
	switch {
	case strings.HasPrefix(name, "Heuristics.Encrypted."):
		v.Outcome, v.Reason = engine.Encrypted, engine.Archive
	case strings.HasPrefix(name, "Heuristics.Limits.Exceeded"):
		v.Outcome, v.Reason = engine.Unscannable, limit(name)
	}
	return v, nil
}

// limit is the reason behind the name of an exceeded limit.
func limit(name string) engine.Reason {
	for word, r := range map[string]engine.Reason{
		"MaxRecursion": engine.TooDeep, "EmailLineFoldcnt": engine.TooMany, "EmailHeaderBytes": engine.TooLarge,
		"EmailHeaders": engine.TooMany, "EmailMIMEPartsPerMessage": engine.TooMany, "EmailMIMEArguments": engine.TooMany,
		"MaxFiles": engine.TooMany, "MaxScanTime": engine.TooLong,
	} {
		if strings.HasSuffix(name, "."+word) {
			return r
		}
	}
	return engine.TooLarge
}

// trouble is what an ERROR means: two of them will come again for the same
// message, the others are clamd's own.
func trouble(text string) (engine.Verdict, error) {
	switch {
	case strings.HasPrefix(text, "INSTREAM size limit exceeded"):
		return engine.Verdict{Outcome: engine.Unscannable, Reason: engine.TooLarge, Detail: engine.Text(text)}, nil
	case strings.HasSuffix(text, "Time limit reached"):
		return engine.Verdict{Outcome: engine.Unscannable, Reason: engine.TooLong, Detail: engine.Text(text)}, nil
	}
	return engine.Verdict{}, engine.Fail(engine.Trouble, "clamd reports %q", engine.Text(text))
}

// version reads "ClamAV 1.4.6/27123/Wed Nov 18 09:31:11 2026", the last two
// only with official signatures.
func version(reply string) (engine.State, error) {
	software, rest, more := strings.Cut(reply, "/")
	if !strings.HasPrefix(software, "ClamAV ") {
		return engine.State{}, engine.Fail(engine.Broken, "clamd answers VERSION with %q", engine.Text(reply))
	}
	s := engine.State{Software: engine.Text(software)}
	if !more {
		return s, nil
	}
	number, built, _ := strings.Cut(rest, "/")
	s.Signatures = engine.Text(number)
	if at, err := time.Parse(time.ANSIC, built); err == nil {
		s.Built = at
	}
	return s, nil
}
