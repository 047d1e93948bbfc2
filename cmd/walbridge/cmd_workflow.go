package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/consumers"
	"github.com/walbridge/walbridge/sink/worktable"
	"github.com/walbridge/walbridge/workflow"
)

func (a *app) workflowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "workflow", Short: "List, show, resume, cancel and signal workflows",
		Long: `Workflows are started and run by programs; their instances and steps are rows beside
the work table. Here they can be looked at, resumed, cancelled and signalled. An
instance is named by its workflow and its key.`,
		Example: "  walbridge workflow list --state failed\n  walbridge workflow show checkout order:9182",
		Args:    arguments(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.workflowList(), a.workflowShow(), a.workflowResume(), a.workflowCancel(), a.workflowSignal())
	return cmd
}

// withEngine opens an engine that runs nothing.
func (a *app) withEngine(ctx context.Context, use func(*workflow.Engine, configs.Loaded) error) error {
	loaded, err := a.load()
	if err != nil {
		return err
	}
	cfg, err := workTableConfig(loaded)
	if err != nil {
		return err
	}
	pool, err := worktable.Pool(ctx, cfg, "workflow")
	if err != nil {
		return err
	}
	defer pool.Close()
	e, err := workflow.New(pool, workflow.Config{Schema: cfg.Schema})
	if err != nil {
		return err
	}
	return use(e, loaded)
}

func workflowStates() []string {
	var all []string
	for _, s := range []workflow.Status{
		workflow.Running, workflow.Waiting, workflow.Compensating, workflow.Completed, workflow.Compensated, workflow.Failed, workflow.Halted,
	} {
		all = append(all, string(s))
	}
	return all
}

func (a *app) workflowList() *cobra.Command {
	var f workflow.Filter
	var state string
	cmd := &cobra.Command{
		Use: "list", Short: "List workflow instances, the newest first",
		Long: `List workflow instances, the newest first, finished ones too. --state failed and halted
are those that wait for an operator. States: ` + strings.Join(workflowStates(), ", ") + ".",
		Example: "  walbridge workflow list --name checkout --state halted",
		Args:    arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if state != "" && !slices.Contains(workflowStates(), state) {
				return usageError{fmt.Errorf("--state: %q is none of %s", state, strings.Join(workflowStates(), ", "))}
			}
			f.Status = workflow.Status(state)
			return a.withEngine(cmd.Context(), func(e *workflow.Engine, _ configs.Loaded) error {
				all, err := e.List(cmd.Context(), f)
				if err != nil {
					return err
				}
				return a.showInstances(all, f.Limit)
			})
		},
	}
	cmd.Flags().StringVar(&f.Workflow, "name", "", "only those of this workflow")
	cmd.Flags().StringVar(&state, "state", "", "only those in this state")
	cmd.Flags().Int64Var(&f.Before, "before", 0, "only those below this id: the next page")
	cmd.Flags().IntVar(&f.Limit, "limit", 100, "how many at most, up to 1000")
	a.jsonFlag(cmd)
	return cmd
}

// instanceView is a workflow instance for scripts.
type instanceView struct {
	ID           int64           `json:"id"`
	Workflow     string          `json:"workflow"`
	Version      int             `json:"version"`
	Key          string          `json:"key"`
	State        workflow.Status `json:"state"`
	Step         string          `json:"step,omitempty"`
	Attempts     int             `json:"attempts"`
	WaitingFor   string          `json:"waiting_for,omitempty"`
	Owner        string          `json:"owner,omitempty"`
	Reason       string          `json:"reason,omitempty"`
	LastError    string          `json:"last_error,omitempty"`
	CancelReason string          `json:"cancel_reason,omitempty"`
	AvailableAt  *time.Time      `json:"available_at,omitempty"`
	CreatedAt    time.Time       `json:"created_at"`
	UpdatedAt    time.Time       `json:"updated_at"`
	FinishedAt   *time.Time      `json:"finished_at,omitempty"`
}

func instanceOf(i workflow.Info) instanceView {
	return instanceView{
		ID: i.ID, Workflow: i.Workflow, Version: i.Version, Key: i.Key, State: i.Status, Step: i.Step, Attempts: i.Attempts, WaitingFor: i.WaitingFor, Owner: i.Owner,
		Reason: i.Reason, LastError: i.LastError, CancelReason: i.CancelReason, AvailableAt: i.AvailableAt, CreatedAt: i.CreatedAt, UpdatedAt: i.UpdatedAt, FinishedAt: i.FinishedAt,
	}
}

func (a *app) showInstances(all []workflow.Info, limit int) error {
	if a.json {
		views := make([]instanceView, len(all))
		for i, info := range all {
			views[i] = instanceOf(info)
		}
		return a.printJSON(views)
	}
	rows := make([]table.Row, len(all))
	for i, w := range all {
		rows[i] = table.Row{
			w.ID, plain(w.Workflow), w.Version, short(plain(w.Key), 40), string(w.Status), dash(plain(w.Step)), w.Attempts, timeText(w.UpdatedAt), short(plain(w.LastError), 50),
		}
	}
	a.rows(table.Row{"id", "workflow", "version", "key", "state", "step", "attempts", "updated", "error"}, rows)
	if limit > 0 && len(all) == limit {
		fmt.Fprintf(a.stdout, "there may be more: --before %d\n", all[len(all)-1].ID)
	}
	return nil
}

func (a *app) workflowShow() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show NAME KEY", Short: "Show a workflow instance with its steps",
		Long:    "Show a workflow instance: its state, the steps that have an outcome, its timers and its signals.",
		Example: "  walbridge workflow show checkout order:9182",
		Args:    arguments(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withEngine(cmd.Context(), func(e *workflow.Engine, l configs.Loaded) error {
				d, err := e.Show(cmd.Context(), args[0], args[1])
				if err != nil {
					return err
				}
				return a.showInstance(cmd.Context(), l, d)
			})
		},
	}
	a.jsonFlag(cmd)
	return cmd
}

// stepView is a step of a workflow instance for scripts.
type stepView struct {
	N            int        `json:"n"`
	Name         string     `json:"name"`
	Kind         string     `json:"kind"`
	State        string     `json:"state"`
	Attempts     int        `json:"attempts"`
	LastError    string     `json:"last_error,omitempty"`
	NextAt       *time.Time `json:"next_at,omitempty"`
	StartedAt    *time.Time `json:"started_at,omitempty"`
	FinishedAt   *time.Time `json:"finished_at,omitempty"`
	UndoAttempts int        `json:"undo_attempts"`
	UndoError    string     `json:"undo_error,omitempty"`
	UndoneAt     *time.Time `json:"undone_at,omitempty"`
}

// instanceWhole is a workflow instance with all that belongs to it, for scripts.
type instanceWhole struct {
	instanceView
	Data    json.RawMessage    `json:"data"`
	Steps   []stepView         `json:"steps"`
	Timers  []consumers.Timer  `json:"timers"`
	Signals []consumers.Signal `json:"signals"`
}

func (a *app) showInstance(ctx context.Context, l configs.Loaded, d workflow.Details) error {
	whole := instanceWhole{instanceView: instanceOf(d.Info), Data: d.State, Steps: make([]stepView, len(d.Steps))}
	for i, s := range d.Steps {
		whole.Steps[i] = stepView{s.N, s.Name, s.Kind, s.Status, s.Attempts, s.LastError, s.NextAt, s.StartedAt, s.FinishedAt, s.UndoAttempts, s.UndoError, s.UndoneAt}
	}
	err := a.withBoardOf(ctx, l, "workflow", func(b *consumers.Board) (err error) {
		if whole.Timers, err = b.Timers(ctx, d.ID); err != nil {
			return err
		}
		whole.Signals, err = b.Signals(ctx, d.ID)
		return err
	})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(whole)
	}
	a.showWhole(whole)
	return nil
}

func (a *app) showWhole(w instanceWhole) {
	for _, line := range [][2]string{
		{"workflow", fmt.Sprintf("%s, version %d", w.Workflow, w.Version)}, {"key", w.Key}, {"state", string(w.State)}, {"next step", w.Step},
		{"waiting for", w.WaitingFor}, {"owner", w.Owner}, {"reason", w.Reason}, {"last error", w.LastError}, {"cancelled", w.CancelReason},
		{"available at", strings.TrimPrefix(optionalTime(w.AvailableAt), "-")}, {"created", timeText(w.CreatedAt)},
		{"finished", strings.TrimPrefix(optionalTime(w.FinishedAt), "-")}, {"data", short(oneLine(w.Data), 500)},
	} {
		if line[1] != "" {
			fmt.Fprintf(a.stdout, "%-12s %s\n", line[0], plain(line[1]))
		}
	}
	rows := make([]table.Row, len(w.Steps))
	for i, s := range w.Steps {
		failure := s.LastError
		if s.UndoError != "" {
			failure = "undo: " + s.UndoError
		}
		rows[i] = table.Row{s.N, plain(s.Name), s.Kind, s.State, s.Attempts, s.UndoAttempts, optionalTime(s.StartedAt), optionalTime(s.FinishedAt), optionalTime(s.NextAt), short(plain(failure), 50)}
	}
	a.rows(table.Row{"n", "step", "kind", "state", "attempts", "undo attempts", "started", "finished", "next attempt", "error"}, rows)
	for _, t := range w.Timers {
		fmt.Fprintf(a.stdout, "timer of step %d: fires at %s, fired at %s\n", t.Step, timeText(t.FiresAt), optionalTime(t.FiredAt))
	}
	for _, s := range w.Signals {
		taken := "not consumed"
		if s.ConsumedBy != nil {
			taken = fmt.Sprintf("consumed by step %d at %s", *s.ConsumedBy, optionalTime(s.ConsumedAt))
		}
		fmt.Fprintf(a.stdout, "signal %s at %s: %s, %s\n", plain(s.Name), timeText(s.CreatedAt), taken, short(plain(oneLine(s.Data)), 200))
	}
}

// instanceDeed makes a command that does one thing to one instance.
func (a *app) instanceDeed(cmd *cobra.Command, args int, does func(context.Context, *workflow.Engine, []string) (string, error)) *cobra.Command {
	cmd.Args = arguments(cobra.ExactArgs(args))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withEngine(cmd.Context(), func(e *workflow.Engine, _ configs.Loaded) error {
			done, err := does(cmd.Context(), e, args)
			if err != nil || done == "" {
				return err
			}
			return a.deed(map[string]any{"workflow": args[0], "key": args[1], "done": cmd.Name()}, "%s", done)
		})
	}
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) workflowResume() *cobra.Command {
	return a.instanceDeed(&cobra.Command{
		Use: "resume NAME KEY", Short: "Let a failed or halted workflow instance try again",
		Long: `Let a workflow instance try again at once: a compensation that has failed, an instance
that was halted, a step that waits for its next attempt. Failed attempts are forgotten.
One that is at work, or waits for a signal or a time, is left as it is.`,
		Example: "  walbridge workflow resume checkout order:9182",
	}, 2, func(ctx context.Context, e *workflow.Engine, args []string) (string, error) {
		return "resumed " + plain(args[0]+" "+args[1]), e.Resume(ctx, args[0], args[1])
	})
}

func (a *app) workflowCancel() *cobra.Command {
	var yes bool
	var reason string
	cmd := a.instanceDeed(&cobra.Command{
		Use: "cancel NAME KEY", Short: "Undo what a workflow instance has done, and end it",
		Long: `Cancel a workflow instance, after asking: no further step is begun, and the completed
ones are compensated, the last one first. It returns when that is decided, not when it
is done. A halted instance is compensated when it is resumed.`,
		Example: "  walbridge workflow cancel checkout order:9182 --reason 'ordered twice'",
	}, 2, func(ctx context.Context, e *workflow.Engine, args []string) (string, error) {
		if a.json && !yes {
			return "", errAsks
		}
		d, err := e.Show(ctx, args[0], args[1])
		if err != nil {
			return "", err
		}
		if !yes && !a.agreed(plain(fmt.Sprintf("Cancel %s %s, which is %s with %d steps behind it?", args[0], args[1], d.Status, len(d.Steps)))) {
			_, err := fmt.Fprintln(a.stdout, "nothing cancelled")
			return "", err
		}
		return "cancelled " + plain(args[0]+" "+args[1]) + ": its completed steps are compensated", e.Cancel(ctx, args[0], args[1], reason)
	})
	cmd.Flags().StringVar(&reason, "reason", "cancelled by an operator", "why, for the instance's row")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (a *app) workflowSignal() *cobra.Command {
	var data, id string
	cmd := a.instanceDeed(&cobra.Command{
		Use: "signal NAME KEY SIGNAL", Short: "Send a signal to a workflow instance",
		Long: `Send a signal to a workflow instance, with data as JSON. It is kept until a wait of its
name consumes it, so that it may come before the instance waits. Of signals with one
--id only the first counts, so that a command that failed can be repeated.`,
		Example: "  walbridge workflow signal checkout order:9182 shipped --data '{\"parcel\": 7}'",
	}, 3, func(ctx context.Context, e *workflow.Engine, args []string) (string, error) {
		text, err := a.jsonArgument(data)
		if err != nil {
			return "", err
		}
		var opts []workflow.SignalOption
		if id != "" {
			opts = append(opts, workflow.SignalID(id))
		}
		return "sent " + plain(args[2]+" to "+args[0]+" "+args[1]), e.Signal(ctx, args[0], args[1], args[2], text, opts...)
	})
	cmd.Flags().StringVar(&data, "data", "null", "JSON; - reads it from standard input")
	cmd.Flags().StringVar(&id, "id", "", "makes it idempotent")
	return cmd
}

// jsonArgument is the JSON of a flag, or of the standard input.
func (a *app) jsonArgument(text string) (json.RawMessage, error) {
	if text == "-" {
		all, err := io.ReadAll(io.LimitReader(a.stdin, workflow.MaxSignal+1))
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		text = string(all)
	}
	if !json.Valid([]byte(text)) {
		return nil, usageError{errors.New("--data is no JSON")}
	}
	return json.RawMessage(text), nil
}
