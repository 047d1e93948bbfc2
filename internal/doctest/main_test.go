package doctest_test

import (
	"testing"

	"github.com/walbridge/walbridge/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }
