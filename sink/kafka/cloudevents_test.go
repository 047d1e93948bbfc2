package kafka

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/binding/spec"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
)

// The SDK of CloudEvents reads an event of an outbox from Kafka, with all its attributes.
func TestCloudEvents(t *testing.T) {
	f := newFake(t)
	s := opened(t, f.cfg, "shop")
	m, err := mapper.New(mapper.Config{Routes: []mapper.Route{{
		Tables: []string{"public.outbox"}, Stream: fakeTopic, Outbox: &mapper.Outbox{Format: "cloudevents", Headers: "headers"},
	}}}, mapper.Env{Bridge: "shop", Database: "db", Raw: true})
	require.NoError(t, err)
	items, err := m.Map(outboxInsert("0f8fad5b", "order", "order:9182", "OrderPaid", `{"total":"129.95"}`,
		`{"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","tenant":"north","ce_id":"forged"}`))
	require.NoError(t, err)
	b := s.NewBatch()
	b.Append(items)
	b.EndTx()
	require.NoError(t, s.Write(ctxOf(t), b, at(0x130)))
	records := committed(t, f.cfg.Brokers[0], f.cfg.TransactionalID, fakeTopic)[fakeTopic]
	require.Len(t, records, 1)
	event, err := binding.ToEvent(t.Context(), &cloudMessage{records[0]})
	require.NoError(t, err)
	require.NoError(t, event.Validate())
	require.Equal(t, []string{"1.0", "0f8fad5b", "/shop/public/outbox", "OrderPaid", "order:9182", "application/json", `{"total":"129.95"}`},
		[]string{event.SpecVersion(), event.ID(), event.Source(), event.Type(), event.Subject(), event.DataContentType(), string(event.Data())})
	require.Equal(t, lsn.Micros(817_000_000_123456).Time(), event.Time())
	require.Equal(t, map[string]any{
		"partitionkey": "order:9182", "sequence": lsn.ID{Commit: 0x100, Seq: 3}.String(), "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
	}, event.Extensions())
	tenant, _ := header(records[0], "tenant")
	require.Equal(t, "north", tenant)
}

// Payloads of text and bytes are values as they are.
func TestRawPayloads(t *testing.T) {
	for format, want := range map[string]string{"text": `{"a"`, "json": ""} {
		m, err := mapper.New(mapper.Config{Routes: []mapper.Route{{
			Tables: []string{"public.outbox"}, Stream: "s", Outbox: &mapper.Outbox{PayloadFormat: format},
		}}}, mapper.Env{Bridge: "shop", Raw: true})
		require.NoError(t, err)
		c := outboxInsert("1", "order", "k", "T", `{"a"`, "{}")
		c.Relation.Columns[4].TypeOID = 25 // text
		items, err := m.Map(c)
		require.NoError(t, err)
		if want == "" {
			require.Equal(t, mapper.KindDeadLetter, items[0].Kind)
			continue
		}
		require.Equal(t, want, string(items[0].Payload.AppendJSON(nil)))
	}
}

// outboxInsert is the insert of an outbox row.
func outboxInsert(values ...string) *decoder.Change {
	rel := &decoder.Relation{OID: 20000, Namespace: "public", Name: "outbox", Identity: decoder.IdentityDefault}
	c := &decoder.Change{ID: lsn.ID{Commit: 0x100, Seq: 3}, Op: decoder.OpInsert, Relation: rel, Tx: &decoder.Tx{Commit: 0x100, CommitTime: 817_000_000_123456, Xid: 7}}
	const text, json = 25, 114
	for i, name := range []string{"id", "aggregatetype", "aggregateid", "type", "payload", "headers"} {
		col := decoder.Column{Name: name, TypeOID: text, TypeMod: -1, Key: name == "id"}
		if name == "payload" || name == "headers" {
			col.TypeOID = json
		}
		rel.Columns = append(rel.Columns, col)
		c.New = append(c.New, decoder.Value{Kind: decoder.ValueText, Data: []byte(values[i])})
	}
	return c
}

// cloudMessage reads a record as the SDK's own Kafka bindings do (Kafka protocol binding
// for CloudEvents, section 3.2).
type cloudMessage struct{ *kgo.Record }

func (*cloudMessage) ReadEncoding() binding.Encoding { return binding.EncodingBinary }
func (*cloudMessage) Finish(error) error             { return nil }
func (*cloudMessage) ReadStructured(context.Context, binding.StructuredWriter) error {
	return binding.ErrNotStructured
}

// GetAttribute is of binding.MessageMetadataReader.
func (m *cloudMessage) GetAttribute(kind spec.Kind) (spec.Attribute, any) {
	attribute := spec.WithPrefix("ce_").Version("1.0").AttributeFromKind(kind)
	value, _ := header(m.Record, attribute.PrefixedName())
	return attribute, value
}

// GetExtension is of binding.MessageMetadataReader.
func (m *cloudMessage) GetExtension(name string) any {
	value, _ := header(m.Record, "ce_"+name)
	return value
}

func (m *cloudMessage) ReadBinary(_ context.Context, w binding.BinaryWriter) error {
	version := spec.WithPrefix("ce_").Version("1.0")
	for _, h := range m.Headers {
		name := strings.ToLower(h.Key)
		attribute := version.Attribute(name)
		var err error
		switch {
		case name == "content-type":
			err = w.SetAttribute(version.AttributeFromKind(spec.DataContentType), string(h.Value))
		case attribute != nil:
			err = w.SetAttribute(attribute, string(h.Value))
		case strings.HasPrefix(name, "ce_"):
			err = w.SetExtension(strings.TrimPrefix(name, "ce_"), string(h.Value))
		}
		if err != nil {
			return err
		}
	}
	return w.SetData(bytes.NewReader(m.Value))
}
