package lsn

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]LSN{
		"0/0": 0, "16/B374D848": 0x16B374D848, "16/b374d848": 0x16B374D848,
		"FF/FFFFFFFF": 0xFFFFFFFFFF, "100/0": 0x10000000000, "100/00000000": 0x10000000000,
		"FFFFFFFF/FFFFFFFF": math.MaxUint64,
	} {
		got, err := Parse(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "0", "/", "0/", "/0", "0/123456789", "G/0", "0/0/0", "-1/0", "+1/0", " 0/0", "0x1/0"} {
		_, err := Parse(text)
		require.Error(t, err, text)
	}
}

// An LSN's text form does not sort (0/9 after 0/10), so nothing may compare it.
func TestTextRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := LSN(rapid.Uint64().Draw(t, "lsn"))
		got, err := Parse(want.String())
		if err != nil || got != want {
			t.Fatalf("Parse(%q) = %v, %v", want.String(), got, err)
		}
	})
	require.Equal(t, "FF/FFFFFFFF", (LSN(0x100_0000_0000) - 1).String())
	require.Equal(t, "0/0", LSN(0).String())
}

func TestIDSortsAsText(t *testing.T) {
	ids := rapid.Custom(func(t *rapid.T) ID {
		return ID{LSN(rapid.Uint64().Draw(t, "commit")), rapid.Uint32().Draw(t, "seq"), rapid.Uint16().Draw(t, "sub")}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := ids.Draw(t, "a"), ids.Draw(t, "b")
		if got, want := slices.Compare([]byte(a.String()), []byte(b.String())), a.Compare(b); got != want {
			t.Fatalf("%s against %s: text %d, ids %d", a, b, got, want)
		}
		back, err := ParseID(a.String())
		if err != nil || back != a {
			t.Fatalf("ParseID(%s) = %v, %v", a, back, err)
		}
	})
	require.Equal(t, "0000000001924CE8-00000002-0001", ID{0x1924CE8, 2, 1}.String())
	for _, bad := range []string{"", "0000000001924CE8-00000002-001", "0000000001924CE8-00000002-000G", "0000000001924CE8_00000002-0001"} {
		_, err := ParseID(bad)
		require.Error(t, err, bad)
	}
}

func TestPositionOrder(t *testing.T) {
	rising := []Position{{}, {End: 5}, {End: 5, Commit: 9}, {End: 5, Commit: 9, Seq: 1}, {End: 5, Commit: 9, Seq: 1, Sub: 1}, {End: 10}}
	for i, a := range rising {
		for j, b := range rising {
			require.Equal(t, i < j, a.Before(b), "%v before %v", a, b)
		}
	}
	require.Equal(t, LSN(9), Position{End: 5, LastTxEnd: 4, Commit: 9}.LastCommit())
	require.Equal(t, LSN(4), Position{End: 5, LastTxEnd: 4}.LastCommit())
}

func TestMicros(t *testing.T) {
	require.Equal(t, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), Micros(0).Time())
	now := time.Date(2026, 11, 24, 20, 0, 0, 123456000, time.UTC)
	require.Equal(t, now, MicrosOf(now).Time())
}

func TestAppendDoesNotAllocate(t *testing.T) {
	buf := make([]byte, 0, 64)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		buf = LSN(0x16B374D848).AppendText(ID{1, 2, 3}.Append(buf[:0]))
	}))
}
