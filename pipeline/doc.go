// Package pipeline joins the stages into a running bridge and owns everything
// that is between them: progress, batching, the retry-or-halt decision, and the
// status of the whole.
//
// # The way of a change
//
//	socket -> replication.Stream -> decoder -> mapper -> sink.Batch        one goroutine, plain calls (chain)
//	                                                       |
//	                                    handoff: at most three parcels
//	                                                       v
//	                                                  sink.Write           the writer's goroutine
//	                                                       |
//	       replication.Stream.Wake <- positions.confirmed -+               the only way back
//
// Reading, decoding, mapping and encoding are one chain of calls because an eager
// reader in a goroutine of its own makes the walsender slow (see package
// replication), and because back-pressure is then nothing but a blocked call: when
// no parcel is free, nobody reads.
//
// # What may be confirmed
//
// positions.confirmed moves in one place, the writer, after the sink's Write has
// returned nil (or an Open has shown that the write is stored). It starts at the
// sink's own position. The server is told nothing else.
//
// # What happens on an error
//
//	stream fails     drain the writer, back off, START again from the durable position
//	sink fails       the stream stays open; Open until it answers, then write the same
//	                 parcel again or take it as stored, as the answer says
//	a halt           stop reading, let the writer finish what is whole, close the stream,
//	                 stay up and not ready
//	fenced           let everything go and wait for ownership
//	asked to stop    read to the end of the transaction under way, drain, confirm, leave
package pipeline
