package kafka

import (
	"errors"
	"fmt"
	"strings"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/walbridge/walbridge/internal/fault"
)

// is reports whether err is one of the brokers' codes.
func is(err error, codes ...kafka.Error) bool {
	var code kafka.Error
	if !errors.As(err, &code) {
		return false
	}
	for _, c := range codes {
		if c == code {
			return true
		}
	}
	return false
}

// busy reports whether a coordinator has refused for now, and done nothing: it writes
// the markers of the transaction before (51), loads its state (14), is not elected
// yet (15) or has moved (16); or the transport does not know its address (8), so that
// nothing was sent.
func busy(err error) bool {
	return is(err, kafka.BrokerNotAvailable, kafka.ConcurrentTransactions, kafka.GroupLoadInProgress, kafka.GroupCoordinatorNotAvailable, kafka.NotCoordinatorForGroup)
}

// moved reports whether a partition's broker has refused, and stored nothing: it is
// not the leader, has too few copies, or the transport does not know the leader.
func moved(err error) bool {
	return is(err, kafka.NotLeaderForPartition, kafka.NotEnoughReplicas, kafka.LeaderNotAvailable, kafka.UnknownTopicOrPartition) || local(err)
}

// local reports whether a request was not sent: no leader was known for it. The
// transport's words for two leaders in one request have no type.
func local(err error) bool {
	return errors.Is(err, protocol.ErrNoTopic) || errors.Is(err, protocol.ErrNoPartition) || errors.Is(err, protocol.ErrNoLeader) ||
		is(err, kafka.BrokerNotAvailable) || err != nil && strings.Contains(err.Error(), "mismatching leaders")
}

// doubtful reports whether somebody else may have opened the bridge: a transaction of
// our own that timed out has the same codes.
func doubtful(err error) bool {
	return is(err, kafka.ProducerFenced, kafka.InvalidProducerEpoch, kafka.InvalidTransactionState, kafka.InvalidProducerIDMapping,
		kafka.OutOfOrderSequenceNumber, kafka.UnknownProducerId, kafka.TransactionCoordinatorFenced)
}

// final reports whether an error says already what kind it is: the pipeline gets it as
// it is.
func final(err error) bool {
	var halt *fault.Halt
	var config *fault.ConfigError
	var stopped *stoppedError
	return errors.Is(err, fault.ErrFenced) || errors.As(err, &halt) || errors.As(err, &config) || errors.As(err, &stopped)
}

// operation says what was being done, and of which kind the error is.
func operation(what string, err error) error {
	if err == nil || final(err) {
		return err
	}
	return fault.Transient(reason(err), fmt.Errorf("%s: %w", what, err))
}

// reason is the label of walbridge_reconnects_total.
func reason(err error) string {
	switch {
	case is(err, kafka.SASLAuthenticationFailed, kafka.UnsupportedSASLMechanism, kafka.IllegalSASLState):
		return "kafka_login"
	case busy(err):
		return "kafka_coordinator"
	case moved(err):
		return "kafka_leader"
	case doubtful(err):
		return "kafka_transaction"
	}
	var code kafka.Error
	if errors.As(err, &code) && code != kafka.Unknown {
		return "kafka_refused"
	}
	return "kafka_network"
}
