package main

// verifyCmd checks evidence, and the log that it comes from.
type verifyCmd struct {
	Bundle verifyBundleCmd `cmd:"" default:"withargs" help:"Check a file that replay bundle made; it needs no system."`
	Chain  verifyChainCmd  `cmd:"" help:"Compare the log with the checkpoints that were signed of it."`
}
