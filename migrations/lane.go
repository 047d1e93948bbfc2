package migrations

import (
	"crypto/sha256"
	"encoding/binary"
)

// Lane returns the lane of a key: the first 4 bytes of its SHA-256, big-endian,
// modulo the number of lanes, which is at least 1. It is what the schema's function
// lane(text) returns. It does not allocate.
func Lane(key []byte, lanes int) int {
	sum := sha256.Sum256(key)
	return int(binary.BigEndian.Uint32(sum[:4]) % uint32(lanes))
}
