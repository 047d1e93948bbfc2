package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walbridge/walbridge/internal/kafkatest"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// The commands with a Kafka cluster as the destination. One broker serves all of them.
func TestKafka(t *testing.T) {
	t.Parallel()
	b := kafkatest.New(t, kafkatest.SASL(), kafkatest.Setting("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
		kafkatest.Setting("super.users", "User:ANONYMOUS")) // those of the plain listener
	t.Run("from setup to teardown", func(t *testing.T) { kafkaJourney(t, b) })
	t.Run("missing topic", func(t *testing.T) { kafkaWithoutTopic(t, b) })
	t.Run("rights", func(t *testing.T) { kafkaRights(t, b) })
	t.Run("event router", func(t *testing.T) { kafkaEventRouter(t, b) })
	t.Run("nobody there", func(t *testing.T) { kafkaNobody(t) })
}

// kafkaSite is a shop whose bridge writes to a broker; more are further keys.
func kafkaSite(t *testing.T, brokers, more string) *site {
	t.Helper()
	db := shopDB(t)
	s := newSite(t, db, config(bridgeName(db.Name()), db.DSN(), fmt.Sprintf("kafka: {brokers: [%q]%s}", brokers, more)))
	// streams of its own: the broker's topics are shared
	s.change(t, "changes: {},", "changes: {}, stream: \""+s.name()+".${table}\",")
	s.change(t, "outbox: {}}", "outbox: {}, stream: \""+s.name()+".${aggregatetype}\"}")
	return s
}

func kafkaJourney(t *testing.T, b *kafkatest.Broker) {
	s := kafkaSite(t, b.Addr(), ", create_topics: {partitions: 2}")
	name := s.name()
	found := s.do(t, exitFailure, "doctor").stdout
	require.Contains(t, found, "the publication does not exist")
	require.NotContains(t, found, "topic is missing", "they can be made")
	printed := s.do(t, exitOK, "setup", "--print").stdout
	require.Contains(t, printed, "\n-- kafka-topics.sh --bootstrap-server "+b.Addr()+" --create --if-not-exists --topic "+name+".orders --partitions 2\n")
	require.Contains(t, printed, "\n-- kafka-acls.sh --bootstrap-server "+b.Addr()+" --add --allow-principal User:<user> --operation Describe --operation Write --transactional-id walbridge-"+name+" --transactional-id walbridge-"+name+"-dlq\n")
	r := s.do(t, exitOK, "setup")
	require.Contains(t, r.stdout, "topics: made walbridge.progress, "+name+".dead_letter, "+name+".legacy_customers, "+name+".orders\n")
	require.Contains(t, s.do(t, exitOK, "setup").stdout, "topics: as they should be\n")
	s.do(t, exitOK, "doctor")
	r = s.do(t, exitOK, "explain", "public.orders")
	require.Regexp(t, `topic +`+name+`\.orders\n`, r.stdout)
	require.Contains(t, r.stdout, "the headers wb-id, wb-source, wb-xid, wb-committed-at, type\n")

	bridge := s.run(t)
	require.Contains(t, bridge.errs.String(), "isolation.level=read_committed")
	s.db.Exec(t, `INSERT INTO public.orders VALUES (9182, 'paid'); INSERT INTO public.outbox (aggregatetype, aggregateid, type, payload)
		VALUES ('order', '9182', 'OrderPaid', 'no JSON'), ('order', '9183', 'OrderPaid', 'none either')`)
	s.confirmed(t, "INSERT INTO public.legacy_customers VALUES (1, 'Ann')")
	require.Contains(t, s.do(t, exitOK, "status").stdout, "kafka "+b.Addr())
	s.do(t, exitOK, "doctor")
	require.Equal(t, exitOK, bridge.stopped(t), bridge.errs.String())
	require.Contains(t, oneRecord(t, b, name+".orders"), `"id":9182`)

	r = s.do(t, exitFailure, "status")
	require.Regexp(t, `confirmed [0-9A-F]+/[0-9A-F]+ `, r.stdout, "the position is read from the cluster")
	kafkaLetters(t, s, b)
	r = s.do(t, exitOK, "teardown", "--yes")
	require.Contains(t, r.stdout, "the topics stay, with their records")
	nothingLeft(t, s.db, "walbridge_")
	r = s.do(t, exitHalted, "run", "--exit-on-halt")
	require.Contains(t, r.stderr, "halted (slot-missing)")
}

// confirmed waits until all that is committed is confirmed. To that end it commits a row
// that is delivered: a position that holds nothing new for the destination is confirmed
// minutes later.
func (s *site) confirmed(t *testing.T, row string) {
	t.Helper()
	before := s.db.One(t, "SELECT pg_current_wal_insert_lsn()::text")
	s.db.Exec(t, row)
	pgtest.Eventually(t, within, func() bool {
		return s.db.One(t, "SELECT confirmed_flush_lsn > $2::text::pg_lsn FROM pg_replication_slots WHERE slot_name = $1", "walbridge_"+s.name(), before) == "t"
	}, "it is confirmed")
}

// kafkaLetters looks at the dead letter of a payload that is no JSON, and replays it by
// a route that takes texts; another one is discarded.
func kafkaLetters(t *testing.T, s *site, b *kafkatest.Broker) {
	letters := as[[]topicLetter](t, s.do(t, exitOK, "dlq", "list", "--json"))
	require.Len(t, letters, 2)
	first, second := letters[0].ID, letters[1].ID
	require.Contains(t, s.do(t, exitOK, "dlq", "list", "--limit", "1").stdout, "there may be more: --after "+first+"\n")
	require.Equal(t, second, as[[]topicLetter](t, s.do(t, exitOK, "dlq", "list", "--after", first, "--json"))[0].ID)
	require.Contains(t, s.do(t, exitOK, "dlq", "show", first).stdout, "no JSON")
	require.Contains(t, s.do(t, exitUsage, "dlq", "show", "17").stderr, "no id of a dead letter in Kafka")
	require.Contains(t, s.do(t, exitUsage, "dlq", "replay", first).stderr, "it still cannot be mapped: payload_not_json")
	s.change(t, "outbox: {}", "outbox: {payload_format: text}")
	require.Equal(t, first+": 1 items, not stored: a trial\n", s.do(t, exitOK, "dlq", "replay", first, "--trial").stdout)
	require.Contains(t, s.do(t, exitUsage, "dlq", "replay", first, "--if-latest").stderr, "are none")
	require.Equal(t, first+": 1 items, stored\n", s.do(t, exitOK, "dlq", "replay", first, "--note", "texts are right").stdout)
	require.Contains(t, oneRecord(t, b, s.name()+".order"), "no JSON")
	require.Equal(t, "discarded 1 of 2; the others were not open\n", s.do(t, exitOK, "dlq", "discard", first, second).stdout)
	require.JSONEq(t, "[]", s.do(t, exitOK, "dlq", "list", "--json").stdout)
	all := s.do(t, exitOK, "dlq", "list", "--all").stdout
	require.Contains(t, all, "replayed")
	require.Contains(t, all, "discarded")
	s.change(t, "outbox: {payload_format: text}", "outbox: {}")
}

// oneRecord reads the one record of a topic.
func oneRecord(t *testing.T, b *kafkatest.Broker, topic string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	c, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	defer c.Close()
	records := c.PollFetches(ctx).Records()
	require.Len(t, records, 1)
	return string(records[0].Value)
}

// A topic that the routes name is missing and may not be made: doctor says which, setup
// too, and the start halts with the list.
func kafkaWithoutTopic(t *testing.T, b *kafkatest.Broker) {
	s := kafkaSite(t, b.Addr(), "")
	name := s.name()
	r := s.do(t, exitFailure, "doctor")
	require.Contains(t, r.stdout, "error: "+name+".orders: the topic is missing\n")
	require.Contains(t, r.stdout, "kafka-topics.sh --bootstrap-server "+b.Addr()+" --create --topic "+name+".orders")
	r = s.do(t, exitUsage, "setup")
	require.Contains(t, r.stdout, "publication walbridge_"+name+": made")
	require.Contains(t, r.stderr, name+".legacy_customers, "+name+".orders")
	r = s.do(t, exitHalted, "run", "--exit-on-halt")
	require.Contains(t, r.stderr, "halted (kafka-topics-missing): topics that the configuration names are missing: "+name+".legacy_customers, "+name+".orders")
	require.Equal(t, "0", s.db.One(t, "SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1", "walbridge_"+name))
}

// A wrong password, then no rights, then those that setup prints: they are enough.
func kafkaRights(t *testing.T, b *kafkatest.Broker) {
	login := func(password string) string {
		return fmt.Sprintf(", create_topics: {}, sasl: {mechanism: PLAIN, username: %s, password: %q}", kafkatest.PlainUser, password)
	}
	s := kafkaSite(t, b.SASLAddr(), login("MARKER"))
	r := s.do(t, exitFailure, "doctor")
	require.Contains(t, r.stdout, "error: sink.kafka.brokers: ")
	require.Contains(t, strings.ToLower(r.stdout), "authentication failed")
	require.NotContains(t, r.stdout+r.stderr, "MARKER")
	s.change(t, "MARKER", kafkatest.PlainPassword)
	require.Contains(t, s.do(t, exitFailure, "doctor").stdout, "the bridge's user may not use it")
	granted, writes := 0, [][]string(nil)
	for line := range strings.Lines(s.do(t, exitOK, "setup", "--print").stdout) {
		if words := strings.Fields(line); len(words) > 1 && words[1] == "kafka-acls.sh" {
			require.Contains(t, line, " --allow-principal User:"+kafkatest.PlainUser+" ")
			granted++
			if reading := strings.Replace(line, "--operation Write ", "", 1); strings.Contains(line, " --topic ") {
				grant(t, b, strings.Fields(reading))
				writes = append(writes, words)
				continue
			}
			grant(t, b, words)
		}
	}
	require.Equal(t, 3, granted)
	s.inTime(t, "setup") // brokers take a moment to know of rights
	r = s.do(t, exitFailure, "doctor")
	require.Contains(t, r.stdout, "the topic "+s.name()+".orders: the bridge's user may not use it")
	require.Contains(t, r.stdout, "--allow-principal User:<user> --operation Write --topic "+s.name()+".orders")
	for _, words := range writes {
		grant(t, b, words)
	}
	s.inTime(t, "doctor")
	bridge := s.run(t)
	s.db.Exec(t, "INSERT INTO public.orders VALUES (9182, 'paid')")
	require.Contains(t, oneRecord(t, b, s.name()+".orders"), `"id":9182`)
	require.Equal(t, exitOK, bridge.stopped(t), bridge.errs.String())
}

// inTime repeats a command until it ends well.
func (s *site) inTime(t *testing.T, args ...string) {
	t.Helper()
	pgtest.Eventually(t, within, func() bool { return s.invoke(t, args...).code == exitOK }, "%v ends well", args)
}

// grant does what a kafka-acls.sh line says.
func grant(t *testing.T, b *kafkatest.Broker, words []string) {
	t.Helper()
	operations := map[string]kmsg.ACLOperation{
		"Describe": kmsg.ACLOperationDescribe, "DescribeConfigs": kmsg.ACLOperationDescribeConfigs, "Read": kmsg.ACLOperationRead,
		"Write": kmsg.ACLOperationWrite, "Create": kmsg.ACLOperationCreate,
	}
	var allowed []kmsg.ACLOperation
	req := kmsg.NewPtrCreateACLsRequest()
	for i, word := range words {
		c := kmsg.NewCreateACLsRequestCreation()
		switch word {
		case "--operation":
			require.Contains(t, operations, words[i+1])
			allowed = append(allowed, operations[words[i+1]])
			continue
		case "--topic":
			c.ResourceType, c.ResourceName = kmsg.ACLResourceTypeTopic, words[i+1]
		case "--transactional-id":
			c.ResourceType, c.ResourceName = kmsg.ACLResourceTypeTransactionalId, words[i+1]
		case "--cluster":
			c.ResourceType, c.ResourceName = kmsg.ACLResourceTypeCluster, "kafka-cluster"
		default:
			continue
		}
		c.ResourcePatternType, c.Principal, c.Host, c.PermissionType = kmsg.ACLResourcePatternTypeLiteral, "User:"+kafkatest.PlainUser, "*", kmsg.ACLPermissionTypeAllow
		for _, c.Operation = range allowed { // operations come before what they are for
			req.Creations = append(req.Creations, c)
		}
	}
	require.NotEmpty(t, req.Creations)
	c, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()))
	require.NoError(t, err)
	defer c.Close()
	r, err := req.RequestWith(t.Context(), c)
	require.NoError(t, err)
	for _, result := range r.Results {
		require.Zero(t, result.ErrorCode)
	}
}

func kafkaNobody(t *testing.T) {
	s := kafkaSite(t, fmt.Sprintf("127.0.0.1:%d", pgtest.FreePort(t)), "")
	r := s.do(t, exitFailure, "doctor")
	require.Contains(t, r.stdout, "error: sink.kafka.brokers: ")
	require.Contains(t, r.stdout, "refused")
	require.Contains(t, s.do(t, exitUsage, "demo", "--sink", "kafka").stderr, "--sink kafka and --brokers go together")
	require.Contains(t, s.do(t, exitUsage, "demo", "--sink", "topics").stderr, "worktable and kafka are possible")
}
