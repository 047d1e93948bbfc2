package lsn

import "time"

// epochMicros is PostgreSQL's epoch, 2000-01-01 00:00:00 UTC, in microseconds
// since the Unix epoch (datatype/timestamp.h: POSTGRES_EPOCH_JDATE).
const epochMicros = 946684800_000000

// Micros is a time as the replication protocol carries it: microseconds since
// 2000-01-01 00:00:00 UTC on the server's clock.
type Micros int64

// Time converts to a time in UTC.
func (m Micros) Time() time.Time { return time.UnixMicro(int64(m) + epochMicros).UTC() }

// MicrosOf converts a time; what is finer than a microsecond is cut off.
func MicrosOf(t time.Time) Micros { return Micros(t.UnixMicro() - epochMicros) }
