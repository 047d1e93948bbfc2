package statusweb

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/walbridge/walbridge/internal/status"
)

// The chart's own coordinates; the browser stretches them to the room there is.
const (
	chartWidth  = 600.0
	chartHeight = 120.0
	maxPoints   = 300 // more samples than that are drawn as the greatest of their neighbours
)

// chart is the lag over the last minutes, ready to draw.
type chart struct {
	Line, Area        string // path data
	YTop, YMiddle     string // labels; the bottom is 0
	XLeft, XMiddle    string // labels; the right is now
	Label             string // what the picture shows, in words
	GridMiddle, Width float64
	Height            float64
}

// newChart draws samples up to now, nil when there are fewer than two: a line
// needs two ends.
func newChart(samples []status.LagSample, now time.Time) *chart {
	samples = usable(samples, now)
	if len(samples) < 2 {
		return nil
	}
	from := samples[0].At
	width := now.Sub(from)
	if width <= 0 {
		return nil
	}
	highest := 0.0
	for _, s := range samples {
		highest = max(highest, s.Seconds)
	}
	top := niceCeiling(highest)
	c := &chart{
		YTop: tick(top), YMiddle: tick(top / 2), XLeft: ago(width), XMiddle: ago(width / 2),
		GridMiddle: chartHeight / 2, Width: chartWidth, Height: chartHeight,
		Label: fmt.Sprintf("Lag over the last %s: %s at the end, %s at most.", strings.TrimSuffix(ago(width), " ago"), seconds(samples[len(samples)-1].Seconds), seconds(highest)),
	}
	c.draw(thin(samples, from, width), from, width, top)
	return c
}

// tick is a label of the axis of lag.
func tick(s float64) string { return strings.Replace(seconds(s), ".0 s", " s", 1) }

// ago is a label of the axis of time, rounded: it moves with each sample.
func ago(d time.Duration) string {
	if d >= time.Minute {
		d = d.Round(10 * time.Second)
	}
	return span(d) + " ago"
}

// usable drops what cannot be drawn: figures that are no numbers, and samples that
// go back in time.
func usable(samples []status.LagSample, now time.Time) []status.LagSample {
	kept := make([]status.LagSample, 0, len(samples))
	for _, s := range samples {
		if math.IsNaN(s.Seconds) || math.IsInf(s.Seconds, 0) || s.At.After(now) {
			continue
		}
		if n := len(kept); n > 0 && !s.At.After(kept[n-1].At) {
			continue
		}
		s.Seconds = max(s.Seconds, 0)
		kept = append(kept, s)
	}
	return kept
}

// thin keeps the greatest sample of each of maxPoints stretches, so that a short
// peak is never lost.
func thin(samples []status.LagSample, from time.Time, width time.Duration) []status.LagSample {
	if len(samples) <= maxPoints {
		return samples
	}
	var kept []status.LagSample
	last := -1
	for _, s := range samples {
		slot := int(float64(s.At.Sub(from)) / float64(width) * (maxPoints - 1))
		if slot != last {
			kept, last = append(kept, s), slot
		} else if s.Seconds > kept[len(kept)-1].Seconds {
			kept[len(kept)-1] = s
		}
	}
	return kept
}

// draw makes the paths. Where samples are missing the line is broken: the lag then
// was unknown, not steady.
func (c *chart) draw(samples []status.LagSample, from time.Time, width time.Duration, top float64) {
	var line, area strings.Builder
	x := func(s status.LagSample) float64 { return float64(s.At.Sub(from)) / float64(width) * chartWidth }
	y := func(s status.LagSample) float64 { return chartHeight - s.Seconds/top*chartHeight }
	hole := holeAfter(samples)
	for i, s := range samples {
		begins := i == 0 || s.At.Sub(samples[i-1].At) > hole
		if begins && i > 0 {
			fmt.Fprintf(&area, "L%.1f %.1fZ", x(samples[i-1]), chartHeight)
		}
		if begins {
			fmt.Fprintf(&line, "M%.1f %.1f", x(s), y(s))
			fmt.Fprintf(&area, "M%.1f %.1fL%.1f %.1f", x(s), chartHeight, x(s), y(s))
			continue
		}
		fmt.Fprintf(&line, "L%.1f %.1f", x(s), y(s))
		fmt.Fprintf(&area, "L%.1f %.1f", x(s), y(s))
	}
	fmt.Fprintf(&area, "L%.1f %.1fZ", x(samples[len(samples)-1]), chartHeight)
	c.Line, c.Area = line.String(), area.String()
}

// holeAfter is the time without a sample that counts as one missing: five times
// the usual distance.
func holeAfter(samples []status.LagSample) time.Duration {
	usual := time.Duration(math.MaxInt64)
	for i := range samples[1:] {
		usual = min(usual, samples[i+1].At.Sub(samples[i].At))
	}
	return 5 * max(usual, time.Second)
}

// niceCeiling is the least of 1, 2 and 5 times a power of ten that is not below s,
// and at least a tenth of a second, so that a quiet bridge is drawn as quiet.
func niceCeiling(s float64) float64 {
	const least = 0.1
	if s <= least {
		return least
	}
	power := math.Pow(10, math.Floor(math.Log10(s)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= s {
			return m * power
		}
	}
	return 10 * power
}
