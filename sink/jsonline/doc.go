// Package jsonline writes items as lines of JSON, one object a line, for people,
// pipes and files. Its members come in a fixed order and stand for an item's
// fields; what an item does not have is left out:
//
//	id            the item's id, sortable as text
//	kind          event, change or dead_letter
//	stream        the named destination
//	key           what orders the item; left out: it has no order
//	type          event type, or the operation
//	event_id      identifies the item for good
//	committed_at  RFC 3339 in UTC with microseconds
//	time          the item's own time, where it is not committed_at
//	xid           the source's transaction
//	headers       an object of strings
//	available_at  not before this time
//	tx_end        true on the last item of a transaction, false on the others
//	payload       the value; left out: there is none (a tombstone), unlike null
//
// and for a dead letter, in the place of payload:
//
//	reason        stable, snake_case
//	error         what is wrong, for people
//	replayable    false for what was cut
//	raw           the change as JSON
//
// Embedded JSON keeps its text but for white space between its tokens, so that no
// line is broken and numbers stay as they came. The same item gives the same bytes
// at every delivery. An item of all lanes is one line: there is one lane.
package jsonline
