package tail

import (
	"fmt"
	"slices"
	"strings"

	"qstream/directory"
	"qstream/schemas"
)

// Topics are those that a name on the command line means: a topic, a topic
// without "qstream." and ".v1", or "all": all that isn't private or content.
func Topics(name string, s *directory.Snapshot) ([]string, error) {
	if name == "all" {
		return every(s), nil
	}
	if _, err := schemas.Decode(name, "", nil); err == nil {
		return []string{name}, nil
	}
	full := "qstream." + name + ".v1"
	if _, err := schemas.Decode(full, "", nil); err != nil {
		return nil, fmt.Errorf("there is no topic %s: try %s", name, strings.Join(short(every(s)), ", "))
	}
	return []string{full}, nil
}

// every is what a reader may want to see beside each other.
func every(s *directory.Snapshot) []string {
	var names []string
	for _, t := range schemas.FixedTopics() {
		if !t.Private && !strings.HasSuffix(t.Value, "Chunk") {
			names = append(names, t.Name)
		}
	}
	for _, q := range append(slices.Clone(s.Queues()), s.Retired()...) {
		names = append(names, q.Topic())
		if q.Scanned {
			names = append(names, q.ScanTopic())
		}
	}
	return names
}

func short(names []string) []string {
	out := []string{"all"}
	for _, n := range names {
		out = append(out, strings.TrimSuffix(strings.TrimPrefix(n, "qstream."), ".v1"))
	}
	return out
}
