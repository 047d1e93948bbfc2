package recordbatch

import (
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/segmentio/kafka-go/compress/lz4"
)

// Codec is a compression, as the low three bits of a batch's attributes have it.
type Codec int16

// The codecs.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

// Codecs are the names of the codecs, in their order.
func Codecs() []string { return []string{"none", "gzip", "snappy", "lz4", "zstd"} }

// Compressor compresses the records of batches and keeps what it takes to do so.
// For one goroutine at a time.
type Compressor struct {
	codec Codec
	zstd  *zstd.Encoder
	gzip  *gzip.Writer
	out   bytes.Buffer // of lz4 and gzip
}

// NewCompressor returns a compressor of a name of Codecs. It prefers speed: the
// broker keeps what it gets, and a bridge has other things to do.
func NewCompressor(name string) (*Compressor, error) {
	for i, n := range Codecs() {
		if n == name {
			return newCompressor(Codec(i))
		}
	}
	return nil, fmt.Errorf("compression %q: not known", name)
}

func newCompressor(codec Codec) (c *Compressor, err error) {
	c = &Compressor{codec: codec}
	switch codec {
	case Zstd:
		// Concurrency 1: no goroutines, and EncodeAll works in the caller's.
		c.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	case Gzip:
		c.gzip, err = gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
	}
	if err != nil {
		return nil, fmt.Errorf("make the compressor: %w", err)
	}
	return c, nil
}

// append appends src compressed.
func (c *Compressor) append(dst, src []byte) []byte {
	switch c.codec {
	case Zstd:
		return c.zstd.EncodeAll(src, dst)
	case Snappy: // one raw block, without the xerial frame, which no reader asks for
		return appendSnappy(dst, src)
	case LZ4:
		c.out.Reset()
		return c.finish(dst, src, new(lz4.Codec).NewWriter(&c.out))
	case Gzip:
		c.out.Reset()
		c.gzip.Reset(&c.out)
		return c.finish(dst, src, c.gzip)
	}
	return append(dst, src...)
}

// finish writes src through w into c.out, a buffer in memory: nothing can fail but
// memory.
func (c *Compressor) finish(dst, src []byte, w io.WriteCloser) []byte {
	_, err := w.Write(src)
	if closeErr := w.Close(); err != nil || closeErr != nil {
		return append(dst, src...) // not smaller: left as it is
	}
	return append(dst, c.out.Bytes()...)
}

func appendSnappy(dst, src []byte) []byte {
	at, most := len(dst), s2.MaxEncodedLen(len(src))
	if most < 0 {
		return append(dst, src...) // above 4 GiB
	}
	if need := at + most; cap(dst) < need {
		dst = append(make([]byte, 0, need+need/4), dst...)
	}
	return dst[:at+len(s2.EncodeSnappy(dst[at:at+most], src))]
}
