package control

import (
	"testing"

	"go.uber.org/goleak"

	"qstream/test/lanes"
)

func TestMain(m *testing.M) {
	lanes.Open(4)
	goleak.VerifyTestMain(m)
}
