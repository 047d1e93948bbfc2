package mapper

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
)

// readHashBytes is how much of a hash stands for a key in an id.
const readHashBytes = 16

// readID returns the id of a row that a snapshot read: "<bridge>:r<run>:" and the key,
// which is recordKey's: schema.table:["key",…]. A reading that is repeated gives the
// same one, wherever in the stream its rows are put. Where the route withholds columns
// of the key, a hash stands for the key.
func (m *Mapper) readID(rec *recordPayload, key []byte) []byte {
	start := len(m.arena)
	m.arena = append(m.arena, m.env.Bridge...)
	m.arena = append(append(m.arena, ":r"...), rec.c.Read.Run...)
	m.arena = append(m.arena, ':')
	if !rec.plan.withholdsKey() {
		m.arena = append(m.arena, key...)
		return m.kept(start)
	}
	h := hmac.New(sha256.New, rec.c.Read.Salt)
	h.Write(key)
	m.arena = append(m.arena, rec.plan.keyHead...)
	m.arena = hex.AppendEncode(m.arena, h.Sum(nil)[:readHashBytes])
	return m.kept(start)
}

// withholdsKey reports whether a column of the key must not leave as it is.
func (p *recordPlan) withholdsKey() bool {
	if p.withheld == nil {
		return false
	}
	for _, k := range p.key {
		if p.withheld[k.index] != policyKeep {
			return true
		}
	}
	return false
}
