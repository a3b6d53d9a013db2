package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"qstream/ledger/fold"
	pb "qstream/schemas/qstream/v1"
)

// Columns are what legs can be grouped by.
var Columns = []string{"tenant", "queue", "destination", "reason", "place", "host"}

// rated are the columns that rates have too.
var rated = []string{"tenant", "queue", "destination"}

// rateSpan is over how many minutes rates are taken: the current one and those
// before it.
const rateSpan = 5

// Group are legs that have something in common.
type Group struct {
	Keys       map[string]string // by column
	Legs       int
	Recipients int
	Oldest     time.Time // birth; zero: nothing waits
	Reasons    map[string]int
	Reply      string // the most common last reply, with its code
	Replies    int    // legs that have it
	// Legs a minute over the last five; nil: not known for such groups.
	Rates *GroupRates
}

// GroupRates are legs a minute.
type GroupRates struct {
	Came, Left, Deferred float64
}

// Grouping is a question for groups.
type Grouping struct {
	By     []string // of Columns; none: everything is one group
	Filter Filter
	Now    time.Time
	Limit  int // 0: all
}

// Groups counts unfinished legs, the largest groups first. More tells whether
// the limit left out some.
func (s *Store) Groups(ctx context.Context, q Grouping) (found []Group, more bool, err error) {
	for _, c := range q.By {
		if !slices.Contains(Columns, c) {
			return nil, false, fmt.Errorf("legs have no %q", c)
		}
	}
	g := grouping{Grouping: q, store: s, groups: map[string]*Group{}}
	for _, step := range []func(context.Context) error{g.count, g.replies, g.rates} {
		if err := step(ctx); err != nil {
			return nil, false, failed("group legs", err)
		}
	}
	for _, group := range g.groups {
		found = append(found, *group)
	}
	slices.SortFunc(found, func(a, b Group) int {
		return cmp.Or(-cmp.Compare(a.Legs, b.Legs), -cmp.Compare(a.flow(), b.flow()), strings.Compare(g.key(a.Keys), g.key(b.Keys)))
	})
	if q.Limit > 0 && len(found) > q.Limit {
		return found[:q.Limit], true, nil
	}
	return found, false, nil
}

func (g Group) flow() float64 {
	if g.Rates == nil {
		return 0
	}
	return g.Rates.Came + g.Rates.Left
}

// grouping is a question being answered.
type grouping struct {
	Grouping
	store  *Store
	groups map[string]*Group
}

func (g *grouping) key(keys map[string]string) string {
	var b strings.Builder
	for _, c := range g.By {
		b.WriteString(keys[c])
		b.WriteByte(0)
	}
	return b.String()
}

// group is the one of a row's keys; those are words where columns are numbers.
func (g *grouping) group(keys []string) *Group {
	named := make(map[string]string, len(keys))
	for i, c := range g.By {
		named[c] = keys[i]
	}
	k := g.key(named)
	if g.groups[k] == nil {
		g.groups[k] = &Group{Keys: named, Reasons: map[string]int{}}
	}
	return g.groups[k]
}

// selects asks for the columns of the question, and for more.
func (g *grouping) selects(more string) (columns, by string) {
	by = strings.Join(append(slices.Clone(g.By), more), ", ")
	return by, " GROUP BY " + by
}

// keys scans the columns of the question and what follows them.
func (g *grouping) keys(scan scanner, more ...any) ([]string, error) {
	raw := make([]any, len(g.By))
	to := make([]any, 0, len(raw)+len(more))
	for i := range raw {
		to = append(to, &raw[i])
	}
	if err := scan(append(to, more...)...); err != nil {
		return nil, err
	}
	keys := make([]string, len(raw))
	for i, c := range g.By {
		switch v := raw[i].(type) {
		case string:
			keys[i] = v
		case int64:
			if c == "place" {
				keys[i] = fold.Place(v).String()
			} else {
				keys[i] = fold.ReasonWord(pb.Reason(v))
			}
		}
	}
	return keys, nil
}

// count counts legs, and why they wait.
func (g *grouping) count(ctx context.Context) error {
	where, args := g.Filter.where()
	columns, by := g.selects("reason")
	query := "SELECT " + columns + ", count(*), sum(recipients), min(born_ms) FROM legs" + where + by
	return each(ctx, g.store.read, query, args, func(scan scanner) error {
		var reason, legs, recipients, born int64
		keys, err := g.keys(scan, &reason, &legs, &recipients, &born)
		if err != nil {
			return err
		}
		group := g.group(keys)
		group.Legs += int(legs)
		group.Recipients += int(recipients)
		if oldest := time.UnixMilli(born); group.Oldest.IsZero() || oldest.Before(group.Oldest) {
			group.Oldest = oldest
		}
		if word := fold.ReasonWord(pb.Reason(reason)); word != "" {
			group.Reasons[word] += int(legs)
		}
		return nil
	})
}

// replies finds each group's most common last reply.
func (g *grouping) replies(ctx context.Context) error {
	where, args := g.Filter.where()
	columns, by := g.selects("code, reply")
	query := "SELECT " + columns + ", count(*) FROM legs" + where + by
	return each(ctx, g.store.read, query, args, func(scan scanner) error {
		var code, legs int64
		var reply string
		keys, err := g.keys(scan, &code, &reply, &legs)
		if err != nil {
			return err
		}
		text, group := replyText(code, reply), g.group(keys)
		if text == "" {
			return nil
		}
		if n := int(legs); n > group.Replies || n == group.Replies && text < group.Reply {
			group.Reply, group.Replies = text, n
		}
		return nil
	})
}

func replyText(code int64, reply string) string {
	if code == 0 {
		return reply
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", code, reply))
}

// rates adds how many legs come and leave, where that is counted so. A group
// through which legs only pass is one too.
func (g *grouping) rates(ctx context.Context) error {
	only, ok := g.Filter.flows()
	for _, c := range g.By {
		ok = ok && slices.Contains(rated, c)
	}
	if !ok {
		return nil
	}
	for _, group := range g.groups {
		group.Rates = &GroupRates{}
	}
	where, args := only.where()
	where = strings.Replace(where, " WHERE ", " AND ", 1)
	minute := g.Now.Unix() / 60
	minutes := float64(rateSpan-1) + float64(g.Now.Unix()%60+1)/60
	columns := strings.Join(append(slices.Clone(g.By), "sum(came)", "sum(left)", "sum(deferred)"), ", ")
	query := "SELECT " + columns + " FROM rates WHERE minute > ?" + where
	if len(g.By) > 0 {
		query += " GROUP BY " + strings.Join(g.By, ", ")
	} else {
		query += " HAVING count(*) > 0"
	}
	return each(ctx, g.store.read, query, append([]any{minute - rateSpan}, args...), func(scan scanner) error {
		var came, left, deferred int64
		keys, err := g.keys(scan, &came, &left, &deferred)
		if err != nil {
			return err
		}
		g.group(keys).Rates = &GroupRates{float64(came) / minutes, float64(left) / minutes, float64(deferred) / minutes}
		return nil
	})
}
