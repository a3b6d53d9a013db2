// Package office is the only way into a vault: officers come with signed
// requests, to a socket in the vault's folder or over mutual TLS, and what they do
// and see stands in the vault's audit before they hear of it.
//
// Guarantee: who isn't an officer of the vault gets one and the same answer,
// whatever he sends, and learns nothing.
// Guarantee: every order that is shown and every change is in the audit before
// the answer, attempts that are refused too; without audit there is no answer.
// Guarantee: a request counts once, only within Fresh of its time, and only at
// the process that it was made for: none that was seen before a start counts after it.
// (A hello, which asks for that process, does nothing.)
//
// What it changes are statements that the officers have signed themselves: the
// office can't make an order, and who breaks into it can't either.
package office

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/vault/order"
)

// Fresh is how far a request's time may be from the vault's.
const Fresh = 2 * time.Minute

// Verbs of requests.
const (
	VerbHello    = "hello"    // nothing; Hello
	VerbOrders   = "orders"   // OrdersArgs; []Order
	VerbOrder    = "order"    // IDArgs; Order
	VerbOfficers = "officers" // nothing; OfficersAnswer
	VerbSay      = "say"      // order.Signed; SayAnswer
	VerbAudit    = "audit"    // AuditArgs; []Act
	VerbGaps     = "gaps"     // IDArgs; what Config.Gaps gives
	VerbKeys     = "keys"     // nothing; []uint32
	VerbRotate   = "rotate"   // nothing; []uint32
)

const (
	requestFormat   = "qstream-tap-request-1"
	signatureHeader = "Qstream-Signature"
	path            = "/v1/office"
)

// request is what an officer signs, beside what is in it.
type request struct {
	Format  string          `json:"format"`
	Vault   string          `json:"vault"`  // empty in a hello
	Office  []byte          `json:"office"` // Hello.Office; empty in a hello
	Officer string          `json:"officer"`
	At      time.Time       `json:"at"`
	Nonce   []byte          `json:"nonce"`
	Verb    string          `json:"verb"`
	Args    json.RawMessage `json:"args,omitempty"`
}

// signing is what stands before a request where it is signed.
const signing = requestFormat + "\n"

func sign(key ed25519.PrivateKey, body []byte) string {
	return base64.StdEncoding.EncodeToString(ed25519.Sign(key, append([]byte(signing), body...)))
}

func signed(key ed25519.PublicKey, body []byte, signature string) bool {
	raw, err := base64.StdEncoding.DecodeString(signature)
	return err == nil && ed25519.Verify(key, append([]byte(signing), body...), raw)
}

// Hello tells an officer which vault it is.
type Hello struct {
	Vault   string    `json:"vault"`
	Office  []byte    `json:"office"`  // the process, since its start; random
	Changes uint64    `json:"changes"` // of the officers, for order.Change
	Now     time.Time `json:"now"`
}

// OrdersArgs choose orders.
type OrdersArgs struct {
	Ended bool `json:"ended,omitempty"` // those that ended, too
}

// IDArgs name an order.
type IDArgs struct {
	ID string `json:"id"`
}

// AuditArgs choose acts; zero times are no bounds.
type AuditArgs struct {
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
}

// Order is an order with its state.
type Order struct {
	*order.Tap
	State string `json:"state"`
}

// OfficersAnswer are the officers, and the changes that were asked for.
type OfficersAnswer struct {
	Officers  []order.Officer   `json:"officers"`
	Proposals []*order.Proposal `json:"proposals,omitempty"`
}

// SayAnswer is what a statement came to.
type SayAnswer struct {
	ID    string `json:"id"`
	State string `json:"state"` // of the order; "settled" or "requested" of a change
}

// Act is an entry of the audit.
type Act struct {
	At      time.Time `json:"at"`
	Officer string    `json:"officer,omitempty"`
	Action  string    `json:"action"`
	Subject string    `json:"subject,omitempty"`
	Detail  string    `json:"detail,omitempty"`
	Refused string    `json:"refused,omitempty"`
	Client  string    `json:"client,omitempty"`
	Count   uint64    `json:"count,omitempty"`
	Number  uint64    `json:"number"` // of the audit's record
}

func actOf(a *pb.TapAct, number uint64) Act {
	return Act{
		At: time.UnixMilli(a.AtMs).UTC(), Officer: a.Officer, Action: a.Action, Subject: a.Subject, Detail: a.Detail,
		Refused: a.Refused, Client: a.Client, Count: a.Count, Number: number,
	}
}

// What a refusal to an officer is about.
var (
	// ErrReach is a tapper that doesn't answer at all.
	ErrReach   = errors.New("reach the tapper")
	ErrNone    = errors.New("not found")
	ErrInvalid = errors.New("not possible")
	ErrRefused = errors.New("refused")
	// ErrStranger is the answer to who isn't an officer, or whose request isn't of
	// now.
	ErrStranger = errors.New("the vault doesn't know you: is it the right vault, officer and key, and is the clock right?")
	// ErrStandby is a tapper beside the one that writes.
	ErrStandby = errors.New("another tapper writes this vault; ask there, or wait until this one has taken over")
)

// refusal is an error as it travels.
type refusal struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

var codes = map[string]error{"none": ErrNone, "invalid": ErrInvalid, "refused": ErrRefused, "standby": ErrStandby}

func codeOf(err error) string {
	switch {
	case errors.Is(err, order.ErrNone), errors.Is(err, ErrNone):
		return "none"
	case errors.Is(err, order.ErrInvalid), errors.Is(err, ErrInvalid):
		return "invalid"
	case errors.Is(err, ErrStandby):
		return "standby"
	}
	return "refused"
}

// err is the refusal as an error of the client.
func (r refusal) err() error {
	kind := codes[r.Code]
	if kind == nil {
		kind = ErrRefused
	}
	if kind == ErrStandby {
		return kind
	}
	return fmt.Errorf("%w: %s", kind, strings.TrimPrefix(r.Text, kind.Error()+": "))
}

// waitMost bounds an answer: what is said waits for a beat or two of the logs, the
// largest order for some twenty.
const waitMost = 5 * time.Minute

func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, waitMost)
}
