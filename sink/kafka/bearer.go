package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/segmentio/kafka-go/sasl"
)

// bearer is the mechanism OAUTHBEARER (RFC 7628): the token is sent, and the server
// answers with nothing or says what is wrong.
type bearer struct {
	file    string
	command []string
}

// Name is OAUTHBEARER.
func (b *bearer) Name() string { return saslOAuth }

// Start reads the token anew.
func (b *bearer) Start(ctx context.Context) (sasl.StateMachine, []byte, error) {
	token, err := b.token(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("get a token for OAUTHBEARER: %w", err)
	}
	message := append([]byte("n,,\x01auth=Bearer "), token...)
	return bearerState{}, append(message, 1, 1), nil
}

func (b *bearer) token(ctx context.Context) ([]byte, error) {
	var text []byte
	var err error
	if b.file != "" {
		text, err = os.ReadFile(b.file)
	} else {
		// What it prints on its standard error may hold a secret: it is not passed on.
		text, err = exec.CommandContext(ctx, b.command[0], b.command[1:]...).Output()
	}
	if err != nil {
		return nil, err
	}
	if text = bytes.TrimSpace(text); len(text) == 0 {
		return nil, errors.New("it is empty")
	}
	return text, nil
}

type bearerState struct{}

// Next ends the exchange: a challenge is the server's reason for its refusal.
func (bearerState) Next(_ context.Context, challenge []byte) (bool, []byte, error) {
	if len(challenge) == 0 {
		return true, nil, nil
	}
	const most = 200
	return false, nil, fmt.Errorf("OAUTHBEARER: the broker refuses the token: %q", challenge[:min(len(challenge), most)])
}
