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

	Apply      applyCmd      `cmd:"" help:"Change the directory: tenants, queues, routes."`
	Credential credentialCmd `cmd:"" help:"Make a document of a user from a password."`
	Get        getCmd        `cmd:"" help:"Show documents of the directory, or its history."`
	Diff       diffCmd       `cmd:"" help:"Show what applying documents would change."`
	Explain    explainCmd    `cmd:"" help:"Say why qstream does what it does."`
	Queue      queueCmd      `cmd:"" help:"See waiting mail; suspend, resume and flush it; settle dead records."`
	Topics     topicsCmd     `cmd:"" help:"Create, verify and list the topics; mend places on them."`
	Trace      traceCmd      `cmd:"" help:"Print the life of a message: times, hosts, replies, DSNs."`
	Audit      auditCmd      `cmd:"" help:"Count unfinished mail against the events: what is missing, what ended twice."`
	Tail       tailCmd       `cmd:"" help:"Print the records of a topic."`
	Quarantine quarantineCmd `cmd:"" help:"See and settle mail that scan policies hold back."`
	Scan       scanCmd       `cmd:"" help:"See what another scan policy would have made of mail, and put it in force."`
	Tap        tapCmd        `cmd:"" help:"Where copies of mail go: archives; lawful taps, their vault, officers, orders and audit."`
	Replay     replayCmd     `cmd:"" help:"Read mail history again: list, export, bind into evidence, deliver once more."`
	Webhook    webhookCmd    `cmd:"" help:"See, pause, resume and rewind the webhooks that events are posted to."`
	Verify     verifyCmd     `cmd:"" help:"Check evidence that replay bundle made."`

	QmailQueue qmailQueueCmd `cmd:"" name:"qmail-queue" help:"Hand a message over as qmail-queue does: content on descriptor 0, envelope on 1."`
	QmailQMQPC qmailQMQPCCmd `cmd:"" name:"qmail-qmqpc" help:"The same to the servers of control/qmqpservers alone."`
	Sendmail   sendmailCmd   `cmd:"" passthrough:"" help:"Hand a message over as the program of that name does, with its options (-t, -f, -i, -bs, -bp)."`

	Ingest  ingestCmd  `cmd:"" help:"Run the edge: take mail in over SMTP, QMQP and QMTP."`
	Router  routerCmd  `cmd:"" help:"Run the router: decide tenant, queue and destination of each recipient."`
	Scanner scannerCmd `cmd:"" help:"Run the scanner: engines, verdicts, what policy makes of them."`
	Deliver deliverCmd `cmd:"" help:"Run deliver: attempts, outcomes, reports to senders."`
	Delay   delayCmd   `cmd:"" help:"Run delay: retries, lifetime, everything that waits."`
	Tapper  tapperCmd  `cmd:"" help:"Run the tapper: copies, archives, webhooks, tenants' events."`
	Ledger  ledgerCmd  `cmd:"" help:"Run the ledger: what waits where, and what became of messages."`

	Health  healthCmd  `cmd:"" help:"Ask a process on this host whether it is fit for work."`
	Check   checkCmd   `cmd:"" help:"Make what a verb would run, from its settings, and start nothing."`
	Version versionCmd `cmd:"" help:"Print the version."`
}
