package statusweb

import (
	"math"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walbridge/walbridge/internal/status"
)

// waiting is the standby of a bridge.
func waiting() status.Status {
	s := starting()
	s.State, s.Ready, s.Detail = status.StateWaiting, true, "owner: pid 4711 on bridge-0, last sign of life 2 s ago"
	return s
}

func TestPagesOfEachState(t *testing.T) {
	styleElement := regexp.MustCompile(`(?s)<style>.*</style>`)
	for name, f := range map[string]func() status.Status{
		"starting": starting, "streaming": streaming, "backoff": backingOff, "halted": halted, "waiting": waiting,
	} {
		t.Run(name, func(t *testing.T) {
			body := ask(t, configOf(f), http.MethodGet, "localhost", "/").Body.String()
			golden(t, name+".html", styleElement.ReplaceAllLiteralString(body, "<style>…</style>"))
		})
	}
}

// A bridge that streams without a table that a route names says so, and is not all green.
func TestStreamingAndNotReady(t *testing.T) {
	s := streaming()
	s.Ready, s.Detail = false, "the table public.orders, which a route names, is not there"
	v := newView(s, true)
	require.Equal(t, "busy", v.Tone)
	body := ask(t, configOf(func() status.Status { return s }), http.MethodGet, "localhost", "/").Body.String()
	require.Contains(t, body, s.Detail)
}

func TestWithoutASampleThePageSaysSoAndShowsNoZero(t *testing.T) {
	v := newView(starting(), true)
	require.Equal(t, noSample, v.LagSeconds)
	require.Equal(t, noSample, v.LagBytes)
	require.Nil(t, v.Chart)
	for _, s := range v.Way {
		require.Empty(t, s.LSN)
		require.Nil(t, s.Gap)
	}
	for _, f := range v.Flow {
		require.Equal(t, noSample, f.Value)
	}
	body := ask(t, configOf(starting), http.MethodGet, "localhost", "/").Body.String()
	require.Contains(t, body, noSample)
	require.NotContains(t, body, ">0 B</span>")
	require.NotContains(t, body, "0/0")
}

func TestRefresh(t *testing.T) {
	for _, c := range []struct {
		f          func() status.Status
		path, want string
	}{
		{streaming, "/", "2"}, {halted, "/", "15"}, {streaming, "/?refresh=off", ""}, {halted, "/?refresh=off", ""}, {streaming, "/?refresh=9", "2"},
	} {
		w := ask(t, configOf(c.f), http.MethodGet, "localhost", c.path)
		require.Equal(t, c.want, w.Header().Get("Refresh"), c.path)
	}
}

func TestHaltShowsItsRuleItsFactsAndItsWays(t *testing.T) {
	body := ask(t, configOf(halted), http.MethodGet, "localhost", "/").Body.String()
	for _, want := range []string{
		"slot-ahead", "The slot is ahead of the destination", "Going on would leave a gap", "destination has stored", "2A/7EB4B6C0",
		"<code>walbridge recover --slot-ahead --resnapshot</code>", "<code>systemctl restart walbridge</code>", "was advanced",
	} {
		require.Contains(t, body, want)
	}
	require.Less(t, strings.Index(body, "--resnapshot"), strings.Index(body, "--accept-gap"), "the safest first")
}

func TestWayMeasuresWhatLiesBetween(t *testing.T) {
	stations := way(status.Positions{Server: "0/5000", Received: "0/6000", Written: "0/2000", Confirmed: "", Reported: "0/1000"})
	require.Equal(t, "0 B", stations[0].Gap.Bytes, "received is past a sample that is a second old")
	require.Equal(t, "16 KiB", stations[1].Gap.Bytes)
	require.Equal(t, "16 KiB between received and written", stations[1].Gap.Label)
	require.Nil(t, stations[2].Gap)
	require.Nil(t, stations[3].Gap)
	require.Nil(t, stations[4].Gap)
}

func TestLevelGrowsWithTheBytes(t *testing.T) {
	for n, want := range map[int64]int{
		-1: 0, 0: 0, 1: 1, 16 << 10: 1, 16<<10 + 1: 2, 256 << 10: 2, 256<<10 + 1: 3, 4 << 20: 3, 4<<20 + 1: 4, 64 << 20: 4, 64<<20 + 1: 5, 1 << 30: 5, 1<<30 + 1: 6, math.MaxInt64: 6,
	} {
		require.Equal(t, want, level(n), "%d bytes", n)
	}
}

func TestNumbersForPeople(t *testing.T) {
	for s, want := range map[float64]string{
		0: "under 1 ms", 0.0004: "under 1 ms", 0.0412: "41 ms", 0.9994: "999 ms", 0.9996: "1.0 s", 59.9: "59.9 s", 59.96: "1 min",
		200: "3 min 20 s", 86400 * 2.2: "2 d 4 h", -1: noSample, math.Inf(1): "53375 d 23 h",
	} {
		require.Equal(t, want, seconds(s))
	}
	require.Equal(t, noSample, seconds(math.NaN()))
	for d, want := range map[time.Duration]string{0: "0 s", -time.Hour: "0 s", 59 * time.Second: "59 s", 3600 * time.Second: "1 h", 25*time.Hour + time.Minute: "1 d 1 h", 24*time.Hour + 59*time.Minute: "1 d"} {
		require.Equal(t, want, span(d))
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1234: "-1,234", math.MinInt64: "-9,223,372,036,854,775,808"} {
		require.Equal(t, want, count(n))
	}
	for f, want := range map[float64]string{0: "0", 0.05: "under 0.1", 1.25: "1.2", 9.96: "10", 12345.6: "12,346", -1: noSample, math.Inf(1): noSample} {
		require.Equal(t, want, rate(f))
	}
}

func TestChartBreaksWhereSamplesAreMissing(t *testing.T) {
	all := lags(100, func(int) float64 { return 1 })
	whole := newChart(all, noon)
	require.Equal(t, 1, strings.Count(whole.Line, "M"))
	broken := newChart(append(all[:40:40], all[60:]...), noon)
	require.Equal(t, 2, strings.Count(broken.Line, "M"))
	require.Equal(t, 2, strings.Count(broken.Area, "Z"))
}

func TestChartKeepsAShortPeak(t *testing.T) {
	c := newChart(lags(3000, func(i int) float64 {
		if i == 1234 {
			return 7
		}
		return 0.1
	}), noon)
	require.Equal(t, "10 s", c.YTop)
	require.Contains(t, c.Line, " 36.0", "the peak of 7 s of 10 s, in a chart 120 high")
	require.Less(t, strings.Count(c.Line, "L"), maxPoints)
	require.Contains(t, c.Label, "7.0 s at most")
}

func TestChartOfAnySamples(t *testing.T) {
	path := regexp.MustCompile(`^(M\d+\.\d \d+\.\d(L\d+\.\d \d+\.\d)*)+$`)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 700).Draw(t, "n")
		samples := make([]status.LagSample, n)
		at := noon.Add(-time.Hour)
		for i := range samples {
			at = at.Add(time.Duration(rapid.Int64Range(-int64(time.Second), int64(20*time.Second)).Draw(t, "step")))
			samples[i] = status.LagSample{At: at, Seconds: rapid.Float64().Draw(t, "seconds")}
		}
		c := newChart(samples, noon)
		if c == nil {
			return
		}
		if !path.MatchString(c.Line) {
			t.Fatalf("the line leaves the picture: %s", c.Line)
		}
	})
}
