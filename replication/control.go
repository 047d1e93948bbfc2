package replication

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walbridge/walbridge/internal/fault"
)

// control handles every message of a running stream that is not CopyData.
func (st *Stream) control(m message) error {
	switch m.kind {
	case 'E':
		return serverError(m.body)
	case 'N':
		return st.noticed(m.body)
	case 'c', 'C', 'Z': // CopyDone, CommandComplete, ReadyForQuery
		return ErrEnded
	case 'S', 'A': // ParameterStatus, NotificationResponse: nothing that changes the stream
		return nil
	}
	return &ProtocolError{What: fmt.Sprintf("message of the unknown kind 0x%02X", m.kind)}
}

// serverError makes an error of an ErrorResponse.
func serverError(body []byte) error {
	var m pgproto3.ErrorResponse
	if err := m.Decode(body); err != nil {
		return &ProtocolError{What: "ErrorResponse that ends too early"}
	}
	return pgconn.ErrorResponseToPgError(&m)
}

// noticed handles a NoticeResponse: each is logged once in a row, and the one by
// which PostgreSQL 18 says that it leaves changes out ends the stream.
func (st *Stream) noticed(body []byte) error {
	var m pgproto3.NoticeResponse
	if err := (*pgproto3.ErrorResponse)(&m).Decode(body); err != nil {
		return &ProtocolError{What: "NoticeResponse that ends too early"}
	}
	text := oneLine(m.Message + " " + m.Detail)
	if skippedPublication(m.Routine, m.Message) {
		return skippedHalt(st.Received(), text)
	}
	if text != st.notice {
		st.log.Warn("the source server says", "severity", m.Severity, "notice", text, "lsn", st.Received().String())
	}
	st.notice = text
	return nil
}

// skippedPublication knows the notice of pgoutput.c, LoadPublications, in any
// language of messages: the routine's name is not translated.
func skippedPublication(routine, message string) bool {
	return routine == "LoadPublications" || strings.Contains(message, "skipped loading publication")
}

func skippedHalt(at fmt.Stringer, said string) error {
	return &fault.Halt{
		Rule:  "publication-missing",
		What:  "the server leaves changes out, because the publication did not exist when they were written: " + said,
		Why:   "changes of that time would be missing at the destination, silently",
		Facts: []fault.Fact{{Name: "received", Value: at.String()}},
		Ways:  publicationWays(),
	}
}
