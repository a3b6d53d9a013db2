package auth

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"qstream/engine/process"
)

// maxAsk is what a checkpassword program reads.
const maxAsk = 512

// ask asks the checkpassword program (http://cr.yp.to/checkpwd/interface.html):
// user, password and a time stamp on descriptor 3, each ended by a NUL. Exit
// code 0 is yes, 1 is no; 2 (misused), 111 (trouble) and all else are trouble
// of ours.
func (x *Exchange) ask(user, password string) error {
	a := x.a
	now := a.deps.Now()
	words := user + "\x00" + password + "\x00" + strconv.FormatInt(now.Unix(), 10) + "\x00"
	if len(words) > maxAsk || strings.Count(words, "\x00") != 3 {
		return fmt.Errorf("%w: not in form", ErrRejected)
	}
	timer := time.NewTimer(a.cfg.Wait)
	defer timer.Stop()
	select {
	case a.programs <- struct{}{}:
	case <-timer.C:
		return ErrBusy
	case <-x.ctx.Done():
		return ErrBusy
	}
	defer func() { <-a.programs }()
	ctx, cancel := context.WithTimeout(x.ctx, a.cfg.ProgramTimeout)
	defer cancel()
	r, err := process.Run(ctx, process.Program{Path: a.cfg.Program[0], Args: a.cfg.Program[1:], Three: []byte(words), Mute: true,
		Env: []string{"PATH=" + os.Getenv("PATH"), "PROTO=TCP", "TCPREMOTEIP=" + x.client.Addr.Unmap().String()}})
	switch {
	case err != nil:
		return fmt.Errorf("checkpassword program: %w", err)
	case r.Code == 1:
		return fmt.Errorf("%w: the program says no", ErrRejected)
	case r.Code != 0:
		return fmt.Errorf("checkpassword program: %s", r)
	}
	return nil
}
