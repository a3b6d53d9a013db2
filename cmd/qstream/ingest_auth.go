package main

import (
	"strings"
	"time"

	"qstream/ingest/auth"
)

// tlsFlags are the edge's settings of TLS.
type tlsFlags struct {
	TLSCert               []string `name:"tls-cert" placeholder:"FILE" type:"path" help:"PEM files of certificates, one or several; the client's server name chooses. Without one there is no TLS."`
	TLSKey                []string `name:"tls-key" placeholder:"FILE" type:"path" help:"PEM files of their keys, in the same order."`
	TLSClientCA           string   `name:"tls-client-ca" placeholder:"FILE" type:"path" help:"PEM file of the authorities that vouch for clients' certificates."`
	SMTPTLS               string   `name:"smtp-tls" enum:"offer,require" default:"offer" help:"Whether SMTP clients must use STARTTLS: offer or require."`
	SMTPClientCert        string   `name:"smtp-client-cert" enum:"none,request,require" default:"none" help:"Certificates of SMTP clients: none, request or require."`
	SubmissionClientCert  string   `enum:"none,request,require" default:"none" help:"The same on submission."`
	HTTPClientCert        string   `name:"http-client-cert" enum:"none,request,require" default:"none" help:"The same on submission by HTTP."`
	SubmissionsClientCert string   `enum:"none,request,require" default:"none" help:"The same on submissions."`
}

// authFlags are the edge's services for users, and how they sign in.
type authFlags struct {
	Submission           string        `placeholder:"ADDR" help:"Serve submission for users here, usually :587: STARTTLS, then AUTH."`
	Submissions          string        `placeholder:"ADDR" help:"Serve submission with TLS from the first octet here, usually :465."`
	HTTPSubmission       string        `name:"http-submission" placeholder:"ADDR" help:"Serve submission by HTTP here, POST /v1/messages, in TLS (default: nowhere)."`
	SMTPAuth             bool          `name:"smtp-auth" help:"Offer AUTH on SMTP, too."`
	PlainAuth            bool          `help:"Take passwords without TLS, and submission without it: for trying out."`
	AuthMechanisms       []string      `placeholder:"NAME" help:"Mechanisms to offer: PLAIN, LOGIN, SCRAM-SHA-256, SCRAM-SHA-256-PLUS, EXTERNAL (default: all that the users can use)."`
	Checkpassword        string        `placeholder:"COMMAND" help:"Checkpassword program and its arguments, blank-separated, asked about users without a password in the directory."`
	CheckpasswordTimeout time.Duration `placeholder:"TIME" help:"Longest wait for it (default: 10s)."`
	CheckpasswordLimit   int           `placeholder:"N" help:"Most of them at once (default: 8)."`
	AuthChecks           int           `placeholder:"N" help:"Most passwords checked at once (default: half of the processors)."`
	AuthMemory           int64         `placeholder:"OCTETS" help:"Most memory for that (default: 268435456)."`
	AuthDelay            time.Duration `placeholder:"TIME" help:"After which a failed sign-in is answered, longer after many (default: 1s)."`
}

func (f authFlags) auth() auth.Config {
	return auth.Config{
		Mechanisms: f.AuthMechanisms, Program: strings.Fields(f.Checkpassword), ProgramTimeout: f.CheckpasswordTimeout,
		ProgramLimit: f.CheckpasswordLimit, Checks: f.AuthChecks, Memory: f.AuthMemory, Delay: f.AuthDelay,
	}
}
