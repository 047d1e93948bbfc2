package torture

// table is one rebuilt table. Rows with a key lie in the lane of their key, so
// that a truncate can come lane by lane; equal rows of a table without a key are
// counted.
type table struct {
	name  string
	lanes []map[string]*row
	bag   map[string]int
	read  rowReader
	// counts are the changes by operation; both halves of a key change are one update.
	counts map[string]int64
}

func newTable(name string, lanes int) *table {
	return &table{name: name, lanes: make([]map[string]*row, max(1, lanes)), bag: make(map[string]int), counts: make(map[string]int64)}
}

func (t *table) get(lane int, key string) *row { return t.lanes[lane][key] }

func (t *table) put(lane int, key string, r *row) {
	if t.lanes[lane] == nil {
		t.lanes[lane] = make(map[string]*row)
	}
	t.lanes[lane][key] = r
}

func (t *table) remove(lane int, key string) { delete(t.lanes[lane], key) }

// add counts n more copies of a row.
func (t *table) add(whole string, n int) {
	if t.bag[whole] += n; t.bag[whole] == 0 {
		delete(t.bag, whole)
	}
}

// truncate empties one lane. The rows without a key all lie in the table's own.
func (t *table) truncate(lane int) {
	t.lanes[lane] = nil
	if len(t.lanes) == 1 || lane == laneOf(t.name, len(t.lanes)) {
		clear(t.bag)
	}
}

// size is the number of rows, equal ones counted each.
func (t *table) size() int {
	n := 0
	for _, l := range t.lanes {
		n += len(l)
	}
	for _, copies := range t.bag {
		n += copies
	}
	return n
}
