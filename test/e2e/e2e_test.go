// Package e2e runs the scenario files of scenarios/ against the built binary,
// on each broker that QSTREAM_TEST_BROKERS names: "embedded" (the default),
// "kafka1", "kafka3" (one and three Apache Kafka brokers), separated by
// commas. A scenario is a script of testscript's language with the commands
// of commands_test.go. Each has a fresh system, on a broker that is fresh or,
// where it is Kafka, has been emptied.
package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"qstream/test/lanes"
	"qstream/test/rig"
)

func TestMain(m *testing.M) {
	n := 6
	switch brokers := os.Getenv("QSTREAM_TEST_BROKERS"); {
	case strings.Contains(brokers, "kafka3"):
		n = 3 // each with three brokers' memory
	case strings.Contains(brokers, "kafka"):
		n = 4
	}
	lanes.Open(n)
	rig.Main(m)
}

func TestScenarios(t *testing.T) {
	brokers := os.Getenv("QSTREAM_TEST_BROKERS")
	if brokers == "" {
		brokers = "embedded"
	}
	for broker := range strings.SplitSeq(brokers, ",") {
		t.Run(broker, func(t *testing.T) {
			brokers := &rig.Brokers{Kind: broker}
			t.Cleanup(func() {
				if err := brokers.Close(); err != nil {
					t.Error(err)
				}
			})
			testscript.Run(t, testscript.Params{
				Dir:   "scenarios",
				Cmds:  commands,
				Setup: func(e *testscript.Env) error { return setup(e, brokers) },
				Condition: func(c string) (bool, error) {
					if c == "long" {
						return os.Getenv("QSTREAM_TEST_LONG") != "", nil
					}
					if c == "embedded" || c == "kafka1" || c == "kafka3" {
						return c == broker, nil
					}
					return false, fmt.Errorf("unknown condition %q", c)
				},
				RequireUniqueNames: true,
			})
		})
	}
}
