package statusweb

import (
	"math/bits"

	"github.com/walbridge/walbridge/internal/bytesize"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/status"
)

// station is one position on the way from the server to the destination and back.
type station struct {
	ID      string // of the element, for tests and for links
	Name    string
	Explain string
	LSN     string // empty: no sample yet
	// Gap is what lies between this station and the next: bytes that have passed this
	// one and not that one. Empty after the last, and where either is unknown.
	Gap *gap
}

// gap is a number of bytes and how wide to draw it.
type gap struct {
	Bytes string
	// Level is 0 for none and 1 to 6 for up to 16 KiB, 256 KiB, 4 MiB, 64 MiB, 1 GiB
	// and more.
	Level int
	Label string // the whole sentence, for those who do not see the picture
}

// way lays the five positions out in the order a change passes them.
func way(p status.Positions) []station {
	all := []station{
		{ID: "server", Name: "Server", Explain: "end of its WAL", LSN: p.Server},
		{ID: "received", Name: "Received", Explain: "read by the bridge", LSN: p.Received},
		{ID: "written", Name: "Written", Explain: "handed to the destination", LSN: p.Written},
		{ID: "confirmed", Name: "Confirmed", Explain: "stored for good", LSN: p.Confirmed},
		{ID: "reported", Name: "Reported", Explain: "the server may forget", LSN: p.Reported},
	}
	for i := range all[:len(all)-1] {
		all[i].Gap = between(all[i], all[i+1])
	}
	return all
}

// between measures from a station to the one after it. The server's end of WAL is
// a sample of the last second, so what was received may be past it: that is 0.
func between(ahead, behind station) *gap {
	a, errA := lsn.Parse(ahead.LSN)
	b, errB := lsn.Parse(behind.LSN)
	if errA != nil || errB != nil {
		return nil
	}
	n := max(a.Sub(b), 0)
	text := bytesize.Human(n)
	return &gap{Bytes: text, Level: level(n), Label: text + " between " + ahead.ID + " and " + behind.ID}
}

// level grows by one with each factor of 16 above 1 KiB.
func level(n int64) int {
	if n <= 0 {
		return 0
	}
	return min(max((bits.Len64(uint64(n-1))-14+3)/4+1, 1), 6)
}
