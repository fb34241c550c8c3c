// The driver on a real agent: registration, and the behaviour that the job files describe.

package conformance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// commandLineJobs are run by nomad/e2e/run too, to test that script: one that runs, one that is rejected, one that
// fails.
var commandLineJobs = []string{"reloads", "refuses-a-bad-duration", "fails"}

// scriptLimit bounds the script, which starts this large executable many times.
const scriptLimit = 5 * time.Minute

func TestOnAnAgent(t *testing.T) {
	usual := usualWarnings(t)
	a := startAgent(t, true)
	t.Run("the plugin adds no warning", func(t *testing.T) { mustWarnOnlyAsUsual(t, a, usual) })
	t.Run("the node knows the driver", func(t *testing.T) { mustKnowTheDriver(t, a) })
	t.Run("job files", func(t *testing.T) { followJobFiles(t, a) })
	t.Run("job files from the command line", func(t *testing.T) { mustRunFromTheCommandLine(t, a) })
}

var (
	// lineHead is time, level and logger. Several loggers write the same message.
	lineHead = regexp.MustCompile(`^\S+\s+\[\w+\]\s+\S+:\s+`)
	// lineValues are the key=value pairs after the message, which differ from run to run.
	lineValues = regexp.MustCompile(`:?\s+\S+=.*$`)
	// byTiming matches warnings that depend on timing: elections, and a client that registers before the keyring is ready.
	byTiming = regexp.MustCompile(`\] +(nomad[.:]|client\.rpc:|client: error registering)`)
)

// message is the message of a log line.
func message(line string) string {
	return lineValues.ReplaceAllString(lineHead.ReplaceAllString(line, ""), "")
}

// usualWarnings are the warnings of an agent without the driver on this machine.
func usualWarnings(t *testing.T) map[string]bool {
	plain := startAgent(t, false)
	usual := map[string]bool{}
	for _, line := range plain.warnings() {
		usual[message(line)] = true
	}
	plain.stop()
	return usual
}

func mustWarnOnlyAsUsual(t *testing.T, a *agent, usual map[string]bool) {
	for _, line := range a.warnings() {
		if said := message(line); !usual[said] && !byTiming.MatchString(line) {
			t.Errorf("a warning only with the plugin: %s", line)
		}
	}
	content, err := os.ReadFile(a.logFile())
	if err != nil {
		t.Fatal(err)
	}
	mustSay(t, string(content), "detected plugin: name="+driverName+" type=driver")
}

func mustKnowTheDriver(t *testing.T, a *agent) {
	node, err := a.node()
	if err != nil {
		t.Fatal(err)
	}
	if node.Attributes["driver."+driverName] != "1" {
		t.Errorf("attributes %v", node.Attributes)
	}
	if node.Attributes["driver."+driverName+".version"] == "" {
		t.Error("the node has no attribute with the driver's version")
	}
	if told := node.Drivers[driverName].HealthDescription; told != "Healthy" {
		t.Errorf("the health is described as %q", told)
	}
}

// mustRunFromTheCommandLine tests nomad/e2e/run, with this executable as the `nomad` on the PATH.
func mustRunFromTheCommandLine(t *testing.T, a *agent) {
	script, err := filepath.Abs(filepath.Join(repository, "nomad/e2e/run"))
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(script, commandLineJobs...)
	command.Env = here.environment("NOMAD_ADDR="+a.address(), "PATH="+filepath.Dir(here.nomad)+":"+os.Getenv("PATH"))
	late := time.AfterFunc(scriptLimit, func() { _ = command.Process.Kill() })
	output, err := command.CombinedOutput()
	late.Stop()
	t.Logf("%s", output)
	if err != nil {
		t.Fatal(err)
	}
	mustSay(t, string(output), fmt.Sprintf("%d passed, 0 left out, failed: none", len(commandLineJobs)))

	// The script must notice a job that does not do what its comment says.
	command = exec.Command(script, "starts")
	command.Env = here.environment("NOMAD_ADDR=http://127.0.0.1:1", "PATH="+filepath.Dir(here.nomad)+":"+os.Getenv("PATH"))
	if output, err := command.CombinedOutput(); err == nil || !strings.Contains(string(output), "FAILED") {
		t.Errorf("without an agent the script says %v: %s", err, output)
	}
}
