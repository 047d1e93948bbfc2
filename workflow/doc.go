// Package workflow runs sagas and other durable processes of one service: steps in
// local transactions and outside calls, one after the other, each done once its
// effect is stored, and undone in reverse order when a later one fails for good.
// Where an instance stands is rows in the service's own PostgreSQL; there is no
// server besides it, and no distributed transaction.
//
//	var Checkout = workflow.Define[Order]("checkout", 2,
//		workflow.Tx("reserve", reserve).Undo(release),
//		workflow.Activity("charge", charge).Undo(refund).Retry(8, time.Minute).Timeout(10*time.Second),
//		workflow.Wait("shipped", 72*time.Hour),
//		workflow.Tx("close", closeOrder))
//
//	eng, err := workflow.New(pool, workflow.Config{}, Checkout)
//	err = eng.StartTx(ctx, tx, Checkout, "order:9182", Order{Number: 9182})
//	err = eng.Signal(ctx, "checkout", "order:9182", "shipped", parcel)
//	err = eng.Run(ctx)
//
// The example of the package is a whole program.
//
// # What is promised
//
// Steps are data, not code that is replayed: what is stored is the number of the
// next step and the state, so that a deploy in the middle is safe and functions of
// steps may change. The state changes only through run.State(); a step sees it as it
// is stored, and what it changes is stored with the step.
//
//   - The effect of a Tx step, outbox rows, the state and the step's row commit
//     together: exactly once.
//   - An Activity happens at least once, under the same run.Key() at every attempt.
//   - After a crash at any point, an instance goes on at the first step that is not
//     stored as done, in whichever process takes it when the lease has run out.
//   - When a step fails for good, or Cancel is called, the steps that are done are
//     undone in reverse order, each stored before the next; so is an activity of
//     which nobody knows whether it had its effect. No step runs after its
//     compensation. A compensation that fails for good leaves the instance Failed,
//     for List to show and Resume to go on.
//   - A failed attempt is stored with its error and the time of the next one, so
//     that no failure is tried again at once, in no process and after no restart.
//   - A signal that was sent before its wait is kept. Timers that were due while
//     nothing ran fire when something runs.
//   - An instance keeps the version that it was started with. One whose workflow,
//     version or steps no program has is Halted, alone, until one has.
//
// A process that was stopped or cut off for longer than its lease cannot store
// anything: every transaction that does ends with a statement that changes the
// instance's row only while its lease_generation is the process's own, and holds the
// row until the commit; every take-over first waits for that row, and raises the
// generation. What it can still do is outside calls: run.Fence() lets the other
// side refuse those. The context of a step ends before its lease does, so that one
// which heeds it is over when another process begins.
//
// # What it is not for
//
// It has no branches, no loops, no children, no history search and no inbox of human
// approvals. For those use a dedicated platform; a Tx step that writes the outbox
// event which starts it there is this package's part.
//
// Every instance is a row that is updated with each step, and its finished rows stay
// until Prune: for a stream of small independent tasks use package queue.
//
// # Tables and rights
//
// The tables workflow_instance, workflow_step, workflow_timer and workflow_signal
// are made by `walbridge migrate up`. A role that runs engines needs USAGE on the
// schema, SELECT on schema_version, and SELECT, INSERT, UPDATE on the four tables;
// DELETE on workflow_instance too for Prune.
//
// The state is of type json, not jsonb: it keeps the text as it was written, numbers
// beyond a double and \u0000 in strings included, which jsonb changes or refuses, it
// is cheaper to write, and nothing here searches in it.
package workflow
