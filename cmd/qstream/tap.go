package main

// tapCmd are the verbs about copies of mail.
type tapCmd struct {
	Archive tapArchiveCmd `cmd:"" help:"Archives: what is copied openly, and how their sinks do."`
}
