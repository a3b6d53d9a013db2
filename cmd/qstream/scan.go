package main

// scanCmd are the verbs about scanning that go beyond the mail on its way.
type scanCmd struct {
	Replay  scanReplayCmd  `cmd:"" help:"Scan mail of the past again, by the policies and signatures of today."`
	Compare scanCompareCmd `cmd:"" help:"Compare what shadow policies would have made of mail with what became of it."`
	Promote scanPromoteCmd `cmd:"" help:"Put a tenant's or queue's shadow policy in force."`
}
