package replication

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
)

//arch:flat
func TestClassify(t *testing.T) {
	pg := func(code, routine, message, where string) error {
		return fmt.Errorf("do something: %w", &pgconn.PgError{Code: code, Routine: routine, Message: message, Where: where})
	}
	const callback = "slot \"s\", output plugin \"pgoutput\", in the change callback, associated LSN 0/1924E78"
	for _, c := range []struct {
		name   string
		err    error
		reason string // of a transient error
		check  string // of a ConfigError
		rule   string // of a halt
	}{
		{name: "slot active", err: pg("55006", "ReplicationSlotAcquire", "", ""), reason: ReasonSlotActive},
		{name: "terminated", err: pg("57P01", "", "", ""), reason: ReasonTerminated},
		{name: "crash of another backend", err: pg("57P02", "", "", ""), reason: ReasonTerminated},
		{name: "starting up", err: pg("57P03", "", "", ""), reason: ReasonStarting},
		{name: "too many connections", err: pg("53300", "InitProcess", "", ""), reason: ReasonBusy},
		{name: "no slot", err: pg("53400", "ReplicationSlotCreate", "", ""), check: "free-slot"},
		{name: "wal_level", err: pg("55000", "CheckLogicalDecodingRequirements", "", ""), check: "wal-level"},
		{name: "slot lost or foreign", err: pg("55000", "ReplicationSlotAcquire", "", ""), reason: ReasonSlotState},
		{name: "WAL removed", err: pg("58P01", "WalSndSegmentOpen", "requested WAL segment 000 has already been removed", ""), rule: "slot-lost"},
		{name: "another file missing", err: pg("58P01", "open_file", "", ""), reason: ReasonServer},
		{name: "slot made meanwhile", err: pg("42710", "ReplicationSlotCreate", "", ""), reason: ReasonSlotState},
		{name: "slot missing", err: pg("42704", "ReplicationSlotAcquire", "replication slot \"x\" does not exist", ""), reason: ReasonSlotState},
		{name: "publication missing", err: pg("42704", "get_publication_oid", "Publikation fehlt", callback), rule: "publication-missing"},
		{name: "password", err: pg("28P01", "", "", ""), check: "login"},
		{name: "rights", err: pg("42501", "", "", ""), check: "rights"},
		{name: "database", err: pg("3D000", "", "", ""), check: "database"},
		{name: "pooler", err: pg("08P01", "", "unsupported startup parameter: replication", ""), check: "pooler"},
		{name: "option unknown", err: pg("0A000", "", "", ""), check: "server"},
		{name: "syntax", err: pg("42601", "", "", ""), check: "server"},
		{name: "bad text in the data", err: pg("22021", "", "invalid byte sequence", callback), reason: ReasonServer},
		{name: "memory", err: pg("XX000", "", "invalid memory alloc request size", callback), reason: ReasonServer},
		{name: "disk of the server", err: pg("58030", "", "", ""), reason: ReasonServer},
		{name: "no code", err: pg("", "", "", ""), reason: ReasonServer},
		{name: "cut", err: io.ErrUnexpectedEOF, reason: ReasonNetwork},
		{name: "silent", err: ErrSilent, reason: ReasonSilent},
		{name: "ended", err: ErrEnded, reason: ReasonEnded},
		{name: "nonsense", err: &ProtocolError{What: "x"}, reason: ReasonProtocol},
		{name: "classified before", err: fault.Transient("mine", io.EOF), reason: "mine"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Classify(c.err)
			require.Equal(t, got, Classify(got), "once more changes nothing")
			var halt *fault.Halt
			var config *fault.ConfigError
			switch {
			case c.check != "":
				require.ErrorAs(t, got, &config)
				require.Len(t, config.Problems, 1)
				require.Equal(t, c.check, config.Problems[0].Check)
				require.NotEmpty(t, config.Problems[0].Fix)
				require.NotContains(t, config.Error(), "\n")
			case c.rule != "":
				require.ErrorAs(t, got, &halt)
				require.Equal(t, c.rule, halt.Rule)
				requireWaysOut(t, halt)
				require.ErrorIs(t, got, c.err)
			default:
				require.Equal(t, c.reason, fault.Reason(got))
				require.ErrorIs(t, got, c.err)
			}
		})
	}
	require.NoError(t, Classify(nil))
	require.Equal(t, context.Canceled, Classify(context.Canceled))
}

func TestPluginLSN(t *testing.T) {
	for where, want := range map[string]lsn.LSN{
		`slot "s", output plugin "pgoutput", in the change callback, associated LSN 0/1924E78`:                          0x1924E78,
		`Slot »s«, Ausgabe-Plugin »pgoutput«, im Callback change, zugehörige LSN A/1`:                                   0xA00000001,
		"column \"v\"\nslot \"s\", output plugin \"pgoutput\", in the change callback, associated LSN 0/00000010\nlast": 0x10,
	} {
		at, ok := pluginLSN(&pgconn.PgError{Where: where})
		require.True(t, ok, where)
		require.Equal(t, want, at)
	}
	_, ok := pluginLSN(&pgconn.PgError{Where: "PL/pgSQL function f() line 3"})
	require.False(t, ok)
}

// What only the configuration cures stops a first start; later it is tried again,
// since it did work.
func TestConnectErrorsBeforeAndAfterTheFirstStream(t *testing.T) {
	password := &pgconn.PgError{Code: "28P01", Message: "password authentication failed"}
	sender := &pgconn.PgError{Code: "53300", Routine: "InitProcess", Message: "number of requested standby connections exceeds max_wal_senders (currently 1)"}
	for err, reason := range map[error]string{password: ReasonLogin, sender: ReasonBusy, x509.UnknownAuthorityError{}: ReasonNetwork} {
		s := &Source{log: hclog.NewNullLogger()}
		require.ErrorAs(t, s.connectError(err, "source.dsn"), new(*fault.ConfigError), "%v", err)
		s.streamed.Store(true)
		require.Equal(t, reason, fault.Reason(s.connectError(err, "source.dsn")), "%v", err)
	}
	s := &Source{log: hclog.NewNullLogger()}
	err := s.connectError(errors.New("one\n\ttwo"), "source.dsn")
	require.NotContains(t, err.Error(), "\n")
	require.Equal(t, ReasonNetwork, fault.Reason(err))
}
