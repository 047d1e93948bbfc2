package torture

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/walbridge/walbridge/internal/lsn"
)

// Item is one item as a destination holds it. Its slices are valid until the
// reader's next item.
type Item struct {
	// At is the item's place in the destination: seq of the log, or the line's number.
	At      int64
	Source  string // the bridge's name
	ID      lsn.ID
	Lane    int // without meaning where the destination has no lanes
	Stream  string
	Key     string // what orders it
	EventID string // idempotency_key
	Kind    string // event or change
	Type    string
	Payload []byte // nil: NULL
	Headers []byte // nil: NULL
	TxEnd   bool
}

// The names of the two kinds.
const (
	kindEvent  = "event"
	kindChange = "change"
)

// laneOf is the rule by which an item's key chooses its lane.
func laneOf(key string, lanes int) int {
	sum := sha256.Sum256([]byte(key))
	return int(binary.BigEndian.Uint32(sum[:4]) % uint32(lanes))
}

// Finding is something that a correct bridge never leaves behind.
type Finding struct {
	Rule string // stable name, for tests
	At   int64  // place of the item where it shows; 0: found by comparing with the source
	ID   lsn.ID // of that item
	What string // for people, with table and key
}

// Error is one line.
func (f *Finding) Error() string {
	if f.At == 0 {
		return fmt.Sprintf("%s: %s", f.Rule, f.What)
	}
	return fmt.Sprintf("%s at %d, item %s: %s", f.Rule, f.At, f.ID, f.What)
}

// The rules. Those of the first block show at an item, those of the second when
// the rebuilt tables are compared with the source.
const (
	RuleIDOrder       = "id-order"          // an id that is not above the one before it
	RuleItemID        = "item-id"           // an idempotency key, or ids in the payload, that are not the item's
	RuleRepeated      = "repeated-event"    // an event id that was there before
	RuleLane          = "lane"              // not the lane of the key
	RuleKey           = "key"               // not the key of the row
	RulePayload       = "payload"           // a payload that is not of its form, or of another table or operation
	RuleTxEndEarly    = "tx-end-early"      // items of a transaction after its end
	RuleTxEndMissing  = "tx-end-missing"    // a transaction without its end
	RuleRowThere      = "row-there"         // an insert of a row that is there
	RuleRowMissing    = "row-missing"       // an update or a delete of a row that is not
	RuleBefore        = "before-differs"    // an old value that is not the one the row had
	RuleVersion       = "version"           // an update that is not the next one of its row
	RuleUnchanged     = "unchanged"         // an unchanged value that nothing has brought
	RuleHalfMove      = "half-move"         // one half of a key change without the other
	RuleTruncateLanes = "truncate-lanes"    // a truncate that is not one item for each lane
	RuleTransferSum   = "transfer-sum"      // money made or lost at the end of a transaction
	RuleEventOrder    = "event-order"       // events of one aggregate out of their order of commits
	RuleRowLost       = "row-lost"          // compare: the source has a row that the items do not give
	RuleRowExtra      = "row-extra"         // compare: the items give a row that the source lacks
	RuleRowDiffers    = "row-differs"       // compare: another value
	RuleColumns       = "columns-differ"    // compare: other columns
	RuleChanges       = "changes-differ"    // compare: another number of changes
	RuleEventLost     = "event-lost"        // compare: an event that committed and is not there
	RuleEventExtra    = "event-extra"       // compare: an event that never committed
	RuleEventDiffers  = "event-differs"     // compare: another content
	RuleBatches       = "batch-chain"       // rows of the batch table that do not follow one another
	RuleDeadLetters   = "dead-letters"      // dead letters that nothing explains
	RuleTableUnknown  = "table-unpublished" // items of a table that is not published
)
