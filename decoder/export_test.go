package decoder

// SetSeq makes the open transaction as if it had had n changes.
func (d *Decoder) SetSeq(n uint64) { d.seq = n }
