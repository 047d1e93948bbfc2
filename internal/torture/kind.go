package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Kind is a kind of transaction that the workload makes.
type Kind string

// The kinds of transactions.
const (
	Mixed     Kind = "mixed"     // row changes of every sort over several tables, with savepoints
	Transfer  Kind = "transfer"  // between accounts: their sum stays 0
	Event     Kind = "event"     // rows of the outbox, alone or beside other changes
	Truncate  Kind = "truncate"  // of one table or several
	Alter     Kind = "alter"     // columns added, dropped, renamed, retyped between rows
	Large     Kind = "large"     // more rows than a batch holds
	Nothing   Kind = "nothing"   // transactions that leave no item behind
	Message   Kind = "message"   // logical messages, in transactions and outside
	Savepoint Kind = "savepoint" // many subtransactions
)

// weights says how often each kind is drawn.
func weights() map[Kind]int {
	return map[Kind]int{Mixed: 60, Transfer: 12, Event: 14, Truncate: 1, Alter: 3, Large: 1, Nothing: 5, Message: 3, Savepoint: 1}
}

// AllKinds returns every kind, in a fixed order.
func AllKinds() []Kind {
	return []Kind{Mixed, Transfer, Event, Truncate, Alter, Large, Nothing, Message, Savepoint}
}

// draw chooses a kind of those allowed by weight.
func draw(r *rand.Rand, allowed []Kind) Kind {
	w, total := weights(), 0
	for _, k := range allowed {
		total += w[k]
	}
	n := r.IntN(total)
	for _, k := range allowed {
		if n -= w[k]; n < 0 {
			return k
		}
	}
	return allowed[0]
}

// body runs the statements of a transaction of kind k on the writer's open
// transaction.
func (w *writer) body(ctx context.Context, k Kind) error {
	switch k {
	case Transfer:
		return w.transfer(ctx)
	case Event:
		return w.events(ctx)
	case Truncate:
		return w.truncate(ctx)
	case Alter:
		return w.alter(ctx)
	case Large:
		return w.large(ctx)
	case Nothing:
		return w.nothing(ctx)
	case Message:
		return w.messages(ctx)
	case Savepoint:
		return w.savepoints(ctx)
	default:
		return w.mixed(ctx)
	}
}

// mixed runs operations on tables drawn anew for each, now and then below a
// savepoint that is released or rolled back.
func (w *writer) mixed(ctx context.Context) error {
	open := 0
	for n := 1 + w.rand.IntN(w.cfg.Steps); n > 0; n-- {
		switch w.rand.IntN(8) {
		case 0:
			open++
			if err := w.exec(ctx, "SAVEPOINT s"+strconv.Itoa(open)); err != nil {
				return err
			}
		case 1:
			if open == 0 {
				break
			}
			verb := []string{"ROLLBACK TO s", "RELEASE s"}[w.rand.IntN(2)]
			if err := w.exec(ctx, verb+strconv.Itoa(open)); err != nil {
				return err
			}
			if verb == "RELEASE s" {
				open--
			}
		case 2:
			if err := w.event(ctx); err != nil {
				return err
			}
		default:
			if err := w.step(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// step runs one operation on one table.
func (w *writer) step(ctx context.Context) error {
	s := &w.shapes[w.rand.IntN(len(w.shapes))]
	steps := keylessSteps()
	if s.key != nil {
		steps = keyedSteps()
	}
	for _, st := range steps[w.rand.IntN(len(steps))](w.rand, s, w.cfg.Keys, w.temp) {
		if err := w.exec(ctx, st.sql, st.args...); err != nil {
			return err
		}
	}
	return nil
}

// Accounts is the number of rows of load.account.
const Accounts = 40

// transfer moves money between two to four accounts, in one statement or several.
func (w *writer) transfer(ctx context.Context) error {
	ids := w.rand.Perm(Accounts)[:2+w.rand.IntN(3)]
	amounts := make([]int64, len(ids))
	for i := 1; i < len(ids); i++ {
		amounts[i] = w.rand.Int64N(2000) - 1000
		amounts[0] -= amounts[i]
	}
	if w.rand.IntN(2) == 0 {
		var args []any
		for i, id := range ids {
			args = append(args, strconv.Itoa(id), strconv.FormatInt(amounts[i], 10))
		}
		return w.exec(ctx, "UPDATE load.account SET balance = balance + m.amount::bigint FROM (VALUES "+
			tuples(len(ids), 2)+") m(id, amount) WHERE account.id = m.id::int", args...)
	}
	for i, id := range ids {
		err := w.exec(ctx, "UPDATE load.account SET balance = balance + $1 WHERE id = $2",
			strconv.FormatInt(amounts[i], 10), strconv.Itoa(id))
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) events(ctx context.Context) error {
	for n := 1 + w.rand.IntN(3); n > 0; n-- {
		if err := w.event(ctx); err != nil {
			return err
		}
		if w.rand.IntN(2) == 0 {
			if err := w.step(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

const eventSQL = `WITH a AS (
	INSERT INTO load_truth.aggregate VALUES ($1, 1) ON CONFLICT (id) DO UPDATE SET n = aggregate.n + 1 RETURNING n
), e AS (
	INSERT INTO load_truth.event SELECT $2::uuid, $3, $1, n, $4, jsonb_build_object('n', n, 'text', $5::text), $6::jsonb FROM a RETURNING *
)
INSERT INTO load.outbox SELECT id, stream, aggregateid, type, payload, headers FROM e`

// event writes one row of the outbox and the truth about it. Now and then the row
// is deleted in the same transaction, which is an event all the same.
func (w *writer) event(ctx context.Context) error {
	w.eventN++
	id := uuidOf(uint64(w.id)<<48 | w.incarnation<<32 | w.eventN)
	stream := []string{"order", "customer", "invoice"}[w.rand.IntN(3)]
	aggregate := fmt.Sprintf("%s:%s%d", stream, hostile[w.rand.IntN(4)], w.rand.IntN(w.cfg.Keys))
	headers := orNull(func(r *rand.Rand) any { return `{"trace": "` + strconv.Itoa(r.IntN(1000)) + `"}` })(w.rand)
	err := w.exec(ctx, eventSQL, aggregate, id, stream, "Type"+strconv.Itoa(w.rand.IntN(5)), text(w.rand), headers)
	if err != nil || w.rand.IntN(4) != 0 {
		return err
	}
	return w.exec(ctx, "DELETE FROM load.outbox WHERE id = $1", id)
}

func (w *writer) truncate(ctx context.Context) error {
	var names []string
	for _, i := range w.rand.Perm(len(w.shapes))[:1+w.rand.IntN(3)] {
		names = append(names, w.shapes[i].name)
	}
	sql := "TRUNCATE " + strings.Join(names, ", ")
	if w.rand.IntN(3) == 0 {
		sql += " RESTART IDENTITY"
	}
	for range 1 + w.rand.IntN(2) { // rows before it, and after
		if err := w.step(ctx); err != nil {
			return err
		}
	}
	if err := w.exec(ctx, sql); err != nil {
		return err
	}
	return w.mixed(ctx)
}
