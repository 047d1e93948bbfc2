package replication

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// wire builds messages as the server writes them.
type wire struct{ bytes.Buffer }

func (w *wire) message(kind byte, body []byte) {
	w.WriteByte(kind)
	_ = binary.Write(w, binary.BigEndian, uint32(len(body)+4)) // a Buffer takes all
	w.Write(body)
}

func (w *wire) xlogData(lsn uint64, data []byte) {
	b := []byte{'w'}
	b = binary.BigEndian.AppendUint64(b, lsn)
	b = binary.BigEndian.AppendUint64(b, lsn)
	b = binary.BigEndian.AppendUint64(b, 7)
	w.message('d', append(b, data...))
}

func (w *wire) keepalive(lsn uint64, reply bool) {
	b := []byte{'k'}
	b = binary.BigEndian.AppendUint64(b, lsn)
	b = binary.BigEndian.AppendUint64(b, 7)
	if reply {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	w.message('d', b)
}

// response is the body of an ErrorResponse or a NoticeResponse.
func response(fields ...string) []byte {
	var b []byte
	for _, f := range fields {
		b = append(append(b, f...), 0)
	}
	return append(b, 0)
}

// got is what came out of a reader, copied.
type got struct {
	kind byte
	body string
	cut  int64
}

func drain(rd *reader) ([]got, error) {
	var all []got
	for {
		m, err := rd.next()
		if err != nil {
			return all, err
		}
		all = append(all, got{m.kind, string(m.body), m.cut})
	}
}

// sample is a stream with everything in it: small and empty frames, one larger than
// the block, one larger than the limit, and control messages in between.
func sampleStream() ([]byte, []got) {
	var w wire
	var want []got
	add := func(kind byte, body []byte) {
		w.message(kind, body)
		want = append(want, got{kind: kind, body: string(body)})
	}
	add('d', []byte("k"))
	add('d', nil)
	add('N', response("SWARNING", "Mhello"))
	add('d', bytes.Repeat([]byte("b"), 9000))
	add('d', []byte("after a large one"))
	w.message('d', append([]byte("begin"), bytes.Repeat([]byte("x"), 30000)...))
	want = append(want, got{'d', "begin" + strings.Repeat("x", minBlock/2-messageHeader-5), 30005})
	add('d', bytes.Repeat([]byte("c"), 20000)) // exactly the limit
	add('d', []byte("the end"))
	add('c', nil)
	return w.Bytes(), want
}

const sampleLimit = 20000

// TestFramesAtEverySplit reads the same stream in two pieces, split at every byte,
// and byte by byte: the frames are the same.
func TestFramesAtEverySplit(t *testing.T) {
	stream, want := sampleStream()
	read := func(pieces ...[]byte) {
		t.Helper()
		next := pieces
		rd := newReader(func(p []byte) (int, error) {
			for len(next) > 0 && len(next[0]) == 0 {
				next = next[1:]
			}
			if len(next) == 0 {
				return 0, io.EOF
			}
			n := copy(p, next[0])
			next[0] = next[0][n:]
			return n, nil
		}, minBlock, sampleLimit)
		all, err := drain(rd)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, want, all)
	}
	for i := range stream {
		read(stream[:i], stream[i:])
	}
	trickle := make([][]byte, len(stream))
	for i := range stream {
		trickle[i] = stream[i : i+1]
	}
	read(trickle...)
}

// TestFramesInterrupted gives an error between all pieces: nothing is lost by it.
func TestFramesInterrupted(t *testing.T) {
	stream, want := sampleStream()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	left, pause := stream, false
	rd := newReader(func(p []byte) (int, error) {
		if pause = !pause; pause {
			return 0, ErrInterrupted
		}
		if len(left) == 0 {
			return 0, io.EOF
		}
		n := copy(p, left[:min(len(left), 1+rnd.IntN(5000))])
		left = left[n:]
		return n, nil
	}, minBlock, sampleLimit)
	var all []got
	for {
		some, err := drain(rd)
		all = append(all, some...)
		if errors.Is(err, io.EOF) {
			break
		}
		require.ErrorIs(t, err, ErrInterrupted)
	}
	require.Equal(t, want, all)
}

func TestReaderGrowsAndShrinks(t *testing.T) {
	var w wire
	w.message('d', make([]byte, 1<<20))
	for range 2 * calmReads {
		w.message('d', make([]byte, 1000))
	}
	left := w.Bytes()
	rd := newReader(func(p []byte) (int, error) {
		if len(left) == 0 {
			return 0, io.EOF
		}
		n := copy(p, left[:min(len(left), 1000)])
		left = left[n:]
		return n, nil
	}, minBlock, 1<<20)
	_, err := rd.next()
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(rd.block), 1<<20)
	_, err = drain(rd)
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, minBlock, len(rd.block), "the memory of a long message is given back")
}

func TestReaderRefusesNonsense(t *testing.T) {
	for name, head := range map[string][]byte{
		"length below its own size": {'d', 0, 0, 0, 3},
		"negative length":           {'d', 0xFF, 0xFF, 0xFF, 0xFF},
		"longer than a server can":  {'d', 0x40, 0, 0, 4},
		"long control message":      {'N', 0, 0x20, 0, 0},
	} {
		rd := newReader(bytes.NewReader(append(head, make([]byte, 100)...)).Read, minBlock, sampleLimit)
		_, err := rd.next()
		require.ErrorAs(t, err, new(*ProtocolError), name)
		require.Equal(t, minBlock, len(rd.block), "%s: a length that is only claimed takes no memory", name)
	}
}

// TestReaderAllocatesNothing is the hot path: frames cut from a full buffer.
func TestReaderAllocatesNothing(t *testing.T) {
	var w wire
	for range 1000 {
		w.xlogData(1, make([]byte, 150))
	}
	stream := w.Bytes()
	rd := newReader(func(p []byte) (int, error) { return copy(p, stream), nil }, len(stream), sampleLimit)
	var f Frame
	require.Zero(t, testing.AllocsPerRun(5000, func() {
		m, err := rd.next()
		if err == nil {
			err = parseFrame(&f, m)
		}
		if err != nil {
			t.Error(err)
		}
		rd.ready()
	}))
}

func TestReady(t *testing.T) {
	var w wire
	w.keepalive(5, false)
	w.keepalive(6, false)
	stream := w.Bytes()
	rd := newReader(bytes.NewReader(stream[:len(stream)-1]).Read, minBlock, sampleLimit)
	require.False(t, rd.ready(), "nothing was read yet")
	_, err := rd.next()
	require.NoError(t, err)
	require.False(t, rd.ready(), "the second is not whole")

	rd = newReader(bytes.NewReader(stream).Read, minBlock, sampleLimit)
	_, err = rd.next()
	require.NoError(t, err)
	require.True(t, rd.ready())
}

// FuzzFrames feeds garbage, whole and byte by byte: no panic, and the same frames.
func FuzzFrames(f *testing.F) {
	stream, _ := sampleStream()
	f.Add(stream[:200])
	f.Add([]byte{'d', 0, 0, 0, 22, 'k', 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 1})
	f.Add([]byte{'d', 0x7F, 0xFF, 0xFF, 0xFF})
	f.Fuzz(func(t *testing.T, data []byte) {
		read := func(r io.Reader) ([]got, error) {
			all, err := drain(newReader(r.Read, minBlock, 100))
			for _, m := range all {
				var frame Frame
				_ = parseFrame(&frame, message{m.kind, []byte(m.body), m.cut})
			}
			return all, err
		}
		whole, err1 := read(bytes.NewReader(data))
		trickled, err2 := read(oneByte{bytes.NewReader(data)})
		require.Equal(t, whole, trickled)
		require.Equal(t, err1.Error(), err2.Error())
	})
}

type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:1]) }

func TestParseFrame(t *testing.T) {
	var w wire
	w.xlogData(0xABC, []byte("row"))
	w.keepalive(0xDEF, true)
	rd := newReader(bytes.NewReader(w.Bytes()).Read, minBlock, sampleLimit)
	var f Frame
	m, err := rd.next()
	require.NoError(t, err)
	require.NoError(t, parseFrame(&f, m))
	require.Equal(t, Frame{Start: 0xABC, End: 0xABC, SendTime: 7, Data: []byte("row")}, f)
	m, err = rd.next()
	require.NoError(t, err)
	require.NoError(t, parseFrame(&f, m))
	require.Equal(t, Frame{Keepalive: true, End: 0xDEF, SendTime: 7, ReplyRequested: true}, f)

	for _, bad := range []string{"", "w", "wshort", "k", "k0123456789012345678", "z"} {
		require.ErrorAs(t, parseFrame(&f, message{kind: 'd', body: []byte(bad)}), new(*ProtocolError), "%q", bad)
	}
}

func TestStatusBytes(t *testing.T) {
	var b [statusLength]byte
	encodeStatus(&b, 0x0102030405060708, 0x1112131415161718, 0x2122232425262728, true)
	require.Equal(t, []byte{
		'd', 0, 0, 0, 38, 'r',
		1, 2, 3, 4, 5, 6, 7, 8,
		0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
		0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
		0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 1,
	}, b[:])

	// zero means zero: it is not replaced by the write position
	encodeStatus(&b, 5, 0, 0, false)
	require.Equal(t, make([]byte, 16), b[14:30])
	require.Zero(t, b[38])
}
