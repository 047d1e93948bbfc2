package decoder_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/decoder/decodertest"
	"github.com/walbridge/walbridge/internal/lsn"
)

// A corpus file is a captured session: for each message its LSN in eight bytes,
// its length in four, and its bytes.

func corpusPath(major int, name string) string {
	return filepath.Join("testdata", "corpus", fmt.Sprint(major), name+".bin")
}

// corpusMajors are the server versions that there are captures of.
func corpusMajors() []int { return []int{14, 15, 16, 17, 18} }

func writeCorpus(t testing.TB, path string, frames []decodertest.Frame) {
	t.Helper()
	var out []byte
	for _, f := range frames {
		out = binary.BigEndian.AppendUint64(out, uint64(f.Start))
		out = binary.BigEndian.AppendUint32(out, uint32(len(f.Data)))
		out = append(out, f.Data...)
	}
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, out, 0o644))
}

func readCorpus(t testing.TB, path string) []decodertest.Frame {
	t.Helper()
	in, err := os.ReadFile(path)
	require.NoError(t, err)
	var frames []decodertest.Frame
	for len(in) > 0 {
		require.GreaterOrEqual(t, len(in), 12, "%s is cut", path)
		size := int(binary.BigEndian.Uint32(in[8:]))
		require.GreaterOrEqual(t, len(in), 12+size, "%s is cut", path)
		frames = append(frames, decodertest.Frame{Start: lsn.LSN(binary.BigEndian.Uint64(in)), Data: in[12 : 12+size : 12+size]})
		in = in[12+size:]
	}
	return frames
}

// eachCapture calls f for every capture that is in the repository.
func eachCapture(t testing.TB, f func(major int, s scenario, frames []decodertest.Frame)) {
	t.Helper()
	for _, major := range corpusMajors() {
		for _, s := range scenarios() {
			if s.since <= major {
				f(major, s, readCorpus(t, corpusPath(major, s.name)))
			}
		}
	}
}

// What real servers sent, pglogrepl reads as the Parser does, the encoder writes
// byte for byte, and the values lie in the frame.
func TestCapturesAgainstOracleAndEncoder(t *testing.T) {
	eachCapture(t, func(major int, s scenario, frames []decodertest.Frame) {
		var p decoder.Parser
		inStream := false
		for _, f := range frames {
			m, err := p.Parse(f.Data)
			require.NoError(t, err, "%d %s", major, s.name)
			checkAliases(t, f.Data, m)
			checkOracle(t, f.Data, inStream, m)
			require.Equal(t, f.Data, encode(inStream, m), "%d %s: %s", major, s.name, describe(m))
			inStream = m.Kind() == decoder.KindStreamStart || inStream && m.Kind() != decoder.KindStreamStop
		}
	})
}

// Every message of the protocol is among the captures, and each version has those
// that it can send.
func TestCapturesHaveEveryMessage(t *testing.T) {
	kinds := map[int]map[decoder.MessageKind]bool{}
	eachCapture(t, func(major int, _ scenario, frames []decodertest.Frame) {
		if kinds[major] == nil {
			kinds[major] = map[decoder.MessageKind]bool{}
		}
		for _, f := range frames {
			kinds[major][decoder.MessageKind(f.Data[0])] = true
		}
	})
	for major, seen := range kinds {
		want := "BCORYIUDTMSEcA"
		if major >= 15 {
			want += "bPKrp"
		}
		for _, kind := range []byte(want) {
			require.True(t, seen[decoder.MessageKind(kind)], "%s on %d", decoder.MessageKind(kind), major)
		}
	}
}

// Read again from anywhere in a capture, exactly the rest comes.
func TestRestartAnywhereInACapture(t *testing.T) {
	eachCapture(t, func(major int, s scenario, frames []decodertest.Frame) {
		if s.proto > 1 || s.twoPhase {
			return
		}
		whole, _ := read(t, decoder.Config{}, frames)
		requireRising(t, whole)
		var end lsn.LSN
		for i, e := range whole {
			from := decoder.Config{From: lsn.Position{End: end, Commit: e.id.Commit, Seq: e.id.Seq}, Xid: uint64(e.xid)}
			if e.end != 0 {
				end = e.end
				from = decoder.Config{From: lsn.Position{End: end}}
			}
			rest, _ := read(t, from, frames)
			require.Equal(t, append([]event{}, whole[i+1:]...), append([]event{}, rest...), "%d %s after %s", major, s.name, e.text)
		}
	})
}
