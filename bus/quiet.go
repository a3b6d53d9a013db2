package bus

import (
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// quietFor is how long a warning of the client library isn't repeated. A
// process has many clients, and each dials a broker that is gone again and
// again: one line says it.
const quietFor = 30 * time.Second

// quiet keeps the client library's chatter out of the log: what is below a
// warning, and a warning about the same broker that any client of the process
// gave shortly before. Safe for concurrent use.
type quiet struct {
	kgo.Logger
	said *said
}

// said is when each warning was last let through.
type said struct {
	mu  sync.Mutex
	now func() time.Time
	at  map[string]time.Time
}

func (q quiet) Level() kgo.LogLevel { return min(q.Logger.Level(), kgo.LogLevelWarn) }

func (q quiet) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	if q.said.lately(msg, keyvals) {
		return
	}
	q.Logger.Log(level, msg, keyvals...)
}

// lately reports whether a warning is a repetition. Causes may change while a
// broker comes and goes, so err is left out.
func (s *said) lately(msg string, keyvals []any) bool {
	key := msg
	for i := 0; i+1 < len(keyvals); i += 2 {
		switch keyvals[i] {
		case "addr", "topic", "partition", "group":
			key += fmt.Sprint(" ", keyvals[i+1])
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for k, at := range s.at {
		if now.Sub(at) >= quietFor {
			delete(s.at, k)
		}
	}
	if _, ok := s.at[key]; ok {
		return true
	}
	if s.at == nil {
		s.at = map[string]time.Time{}
	}
	s.at[key] = now
	return false
}
