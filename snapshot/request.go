package snapshot

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
)

// The prefixes of our logical messages. Any role may write messages of any prefix, so
// what counts is the nonce or the signature in them.
const (
	MarkPrefix    = "walbridge.chunk"
	RequestPrefix = "walbridge.signal"
)

// Action is what a request asks for.
type Action string

// The actions. Cancel without tables, and the others, are about all that is under way.
const (
	ActionStart  Action = "start"
	ActionPause  Action = "pause"
	ActionResume Action = "resume"
	ActionCancel Action = "cancel"
)

// Request asks a running bridge for something. It travels as a logical message in the
// source's log, so that it takes effect at one place of the stream.
type Request struct {
	// Number is State.Request plus one: a request counts once, whoever repeats it.
	Number uint64 `json:"n,omitempty"`
	// ID is made at random by who asks; see State.Taken.
	ID string `json:"id"`
	// Bridge is the name of the bridge that is meant.
	Bridge string `json:"bridge"`
	Do     Action `json:"do"`
	// Xid is of the only transaction that the request counts in, 64 bits wide; Number is 0
	// then. 0: it counts where it is alone.
	Xid uint64 `json:"xid,omitempty"`
	// Tables are to be read or cancelled. Of each Schema, Name, and for a start Where,
	// Estimate and Bytes count.
	Tables []*Table `json:"tables,omitempty"`
}

// maxTaken bounds State.Taken.
const maxTaken = 8

// signed is a request as it travels.
type signed struct {
	Body json.RawMessage `json:"body"`
	MAC  []byte          `json:"mac"`
}

// Sign returns the content of the message.
func (r Request) Sign(secret []byte) ([]byte, error) {
	if len(secret) == 0 {
		return nil, errors.New("sign a request: there is no secret")
	}
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("sign a request: %w", err)
	}
	return json.Marshal(signed{body, macOf(secret, body)})
}

// errForeign is for a message that is not signed by who may.
var errForeign = errors.New("the signature is not ours")

// openRequest reads and verifies the content of a message.
func openRequest(secret, content []byte) (Request, error) {
	var s signed
	var r Request
	if err := json.Unmarshal(content, &s); err != nil {
		return r, fmt.Errorf("%w: %w", errForeign, err)
	}
	if len(secret) == 0 || !hmac.Equal(s.MAC, macOf(secret, s.Body)) {
		return r, errForeign
	}
	if err := json.Unmarshal(s.Body, &r); err != nil {
		return r, fmt.Errorf("read a request: %w", err)
	}
	return r, nil
}

func macOf(secret, body []byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(RequestPrefix))
	h.Write(body)
	return h.Sum(nil)
}
