package mapper

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
)

// mask replaces values by their hashes. It is for one goroutine.
type mask struct {
	hash hash.Hash
	sum  [sha256.Size]byte
}

// newMask makes the mask of a key: HMAC-SHA256, or SHA-256 without one.
func newMask(key string) *mask {
	if key == "" {
		return &mask{hash: sha256.New()}
	}
	return &mask{hash: hmac.New(sha256.New, []byte(key))}
}

// append appends the hash of a value in hexadecimal.
func (k *mask) append(dst, value []byte) []byte {
	k.hash.Reset()
	k.hash.Write(value) // never returns an error (hash.Hash)
	return hex.AppendEncode(dst, k.hash.Sum(k.sum[:0]))
}
