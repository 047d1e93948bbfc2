package decoder

// StreamStopMessage ends a block of changes. Protocol version 2 and above.
//
//	byte 'E'
//
// Manual: Logical Replication Message Formats, Stream Stop.
type StreamStopMessage struct{}

// Kind returns KindStreamStop.
func (*StreamStopMessage) Kind() MessageKind { return KindStreamStop }
