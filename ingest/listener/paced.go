package listener

import (
	"io"
	"time"
)

// Paced reads from r, what a client sends, and holds the client to the minimum
// rate of l: before each read deadline is told when the read has to be over.
// Time between reads does not count.
func Paced(r io.Reader, deadline func(time.Time) error, l Limits) io.Reader {
	return &paced{r: r, deadline: deadline, pace: pace{limits: &l}}
}

type paced struct {
	r        io.Reader
	deadline func(time.Time) error
	pace     pace
}

func (p *paced) Read(b []byte) (int, error) {
	started := time.Now()
	if err := p.deadline(p.pace.deadline(started)); err != nil {
		return 0, err
	}
	n, err := p.r.Read(b)
	p.pace.waited(time.Since(started), n)
	return n, err
}
