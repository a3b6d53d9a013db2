package main

// scanCmd are the verbs about scanning that go beyond the mail on its way.
type scanCmd struct {
	Replay scanReplayCmd `cmd:"" help:"Scan mail of the past again, by the policies and signatures of today."`
}
