package bytesize

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "65536": 65536, "7B": 7, "1kB": 1000, "1KB": 1000, "1KiB": 1024,
		"4MiB": 4 << 20, "4mib": 4 << 20, " 4 MiB ": 4 << 20, "128MB": 128e6,
		"1.5MiB": 3 << 19, "1GiB": 1 << 30, "2TiB": 2 << 40, "8388607TiB": 8388607 << 40,
	} {
		got, err := Parse(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                    "such as 65536",
		"MiB":                 "such as 65536",
		"4M":                  "such as 65536",
		"4 megabytes":         "such as 65536",
		"0x10":                "such as 65536",
		"1e3":                 "such as 65536",
		"inf":                 "such as 65536",
		"NaN":                 "such as 65536",
		"1.2.3":               "such as 65536",
		"-1":                  "not negative",
		"0.3B":                "not a whole number of bytes",
		"9223372036854775807": "",
		"9223372036854775808": "larger than",
		"8388608TiB":          "larger than",
		"99999999999.5TiB":    "larger than",
	} {
		_, err := Parse(text)
		if want == "" {
			require.NoError(t, err, text)
			continue
		}
		require.ErrorContains(t, err, want, text)
	}
}

func TestFormatIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, math.MaxInt64).Draw(t, "n")
		got, err := Parse(Format(n))
		if err != nil || got != n {
			t.Fatalf("Parse(%q) = %d, %v; want %d", Format(n), got, err, n)
		}
	})
	for n, want := range map[int64]string{0: "0", 1: "1B", 1000: "1kB", 1 << 10: "1KiB", 4 << 20: "4MiB", 1500e3: "1500kB", 1 << 30: "1GiB"} {
		require.Equal(t, want, Format(n))
	}
}

func TestHuman(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 912: "912 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 12900000: "12.3 MiB",
		1<<20 - 1: "1 MiB", 5 << 30: "5 GiB", 700 << 40: "700 TiB", math.MaxInt64: "8388608 TiB",
		-4096: "-4 KiB", math.MinInt64: "-8388608 TiB", 100 << 20: "100 MiB", 1<<20 + 1<<18: "1.25 MiB",
	} {
		require.Equal(t, want, Human(n))
	}
}
