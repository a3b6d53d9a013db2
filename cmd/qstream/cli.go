package main

import "github.com/alecthomas/kong"

// CLI is the verb table: one field per verb, each in a file of its own with
// the method
//
//	Run(ctx context.Context, p *Process) error
//
// ctx ends at SIGTERM and ctrl-c. A verb that needs the bus embeds System.
type CLI struct {
	Settings kong.ConfigFlag `name:"config" placeholder:"FILE" help:"Process settings, YAML; see docs/operations.md."`

	Up   upCmd   `cmd:"" help:"Run every role in one process, on an embedded broker or on a cluster."`
	Send sendCmd `cmd:"" help:"Submit a message, or a sample, over SMTP and print its message id."`

	Router routerCmd `cmd:"" help:"Run the router: decide tenant, queue and destination of each recipient."`

	Health  healthCmd  `cmd:"" help:"Ask a process on this host whether it is fit for work."`
	Version versionCmd `cmd:"" help:"Print the version."`
}
