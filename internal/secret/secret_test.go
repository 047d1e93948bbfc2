package secret

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDSNNeverShowsItsPassword(t *testing.T) {
	for _, dsn := range []string{
		"postgres://u:MARKER@db/shop?sslmode=verify-full",
		"postgresql://u:MARKER@db/shop",
		"postgres://u@db/shop?password=MARKER",
		"postgres://u:MAR%4BKER%zz-MARKER@db/shop",
		"postgres://u:p@MARKER@db/shop",
		"host=db user=u password=MARKER dbname=shop",
		"host=db password = 'MARKER with \\' spaces' user=u",
		"host=db password='MARKER",
		"host=db sslpassword=MARKER",
		"user=u PASSWORD=MARKER",
		`cannot connect to "postgres://u:MARKER@db/shop": refused`,
	} {
		d := DSN(dsn)
		js, err := json.Marshal(map[string]any{"dsn": d})
		require.NoError(t, err)
		for _, shown := range []string{
			d.String(), fmt.Sprint(d), fmt.Sprintf("%v %s %q %#v %x", d, d, d, d, d),
			fmt.Sprintf("%+v", struct{ D DSN }{d}), string(js), fmt.Sprint(fmt.Errorf("connect %v", d)),
		} {
			require.NotContains(t, shown, "MARKER", dsn)
		}
		require.Equal(t, dsn, d.Reveal())
	}
}

func TestRedactLeavesTheRest(t *testing.T) {
	for dsn, want := range map[string]string{
		"postgres://u@db/shop":                     "postgres://u@db/shop",
		"postgres://u:pw@db:5433/shop?sslmode=off": "postgres://u:xxxxx@db:5433/shop?sslmode=off",
		"host=db password=pw dbname=shop":          "host=db password=xxxxx dbname=shop",
		"host=/run/postgresql dbname=shop":         "host=/run/postgresql dbname=shop",
	} {
		require.Equal(t, want, Redact(dsn))
	}
}

func TestText(t *testing.T) {
	require.Empty(t, Text("").String())
	for _, verb := range []string{"%v", "%s", "%q", "%#v", "%x"} {
		require.NotContains(t, fmt.Sprintf(verb, Text("MARKER")), "MARKER")
	}
	require.Equal(t, "MARKER", Text("MARKER").Reveal())
}
