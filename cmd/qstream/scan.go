package main

// scanCmd are the questions and orders about scanning beside the quarantine's.
type scanCmd struct {
	Compare scanCompareCmd `cmd:"" help:"Compare what shadow policies would have made of mail with what became of it."`
	Promote scanPromoteCmd `cmd:"" help:"Put a tenant's or queue's shadow policy in force."`
}
