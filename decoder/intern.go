package decoder

// Bounds of an interner, since any role may choose the prefix of a message.
const (
	maxInterned    = 64
	maxInternedLen = 128
)

// interner gives one string for equal bytes, so that names that repeat cost no
// memory.
type interner struct {
	known map[string]string
}

func newInterner() interner { return interner{known: map[string]string{}} }

func (n *interner) intern(b []byte) string {
	if s, ok := n.known[string(b)]; ok {
		return s
	}
	s := string(b)
	if len(s) > maxInternedLen {
		return s
	}
	if len(n.known) == maxInterned {
		clear(n.known)
	}
	n.known[s] = s
	return s
}
