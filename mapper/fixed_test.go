package mapper

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/catalog"
)

func TestFixedStreams(t *testing.T) {
	c := Config{Routes: []Route{
		{Tables: []string{"public.outbox"}, Outbox: &Outbox{}},
		{Tables: []string{"public.events"}, Outbox: &Outbox{}, Stream: "events"},
		{Tables: []string{"walbridge.inbox"}, Inbox: &Inbox{}},
		{Tables: []string{"public.orders", "legacy.*"}, Changes: &Changes{}},
		{Tables: []string{"audit.*"}, Changes: &Changes{}, Stream: "audit"},
		{Tables: []string{"public.lines"}, Changes: &Changes{}, Stream: "shop.${table}"},
	}}
	require.Equal(t, []string{"audit", "events", "public.orders", "shop.lines"}, c.FixedStreams("shop"))
	m, err := New(c, Env{Bridge: "shop"})
	require.NoError(t, err)
	require.Equal(t, []string{"audit", "legacy.customers", "public.orders"}, m.TableStreams([]catalog.Table{
		{Schema: "public", Name: "outbox"}, {Schema: "public", Name: "orders"}, {Schema: "legacy", Name: "customers"},
		{Schema: "legacy", Name: "part", Root: "legacy.customers"}, {Schema: "audit", Name: "a"}, {Schema: "audit", Name: "b"}, {Schema: "other", Name: "c"},
	}))
}
