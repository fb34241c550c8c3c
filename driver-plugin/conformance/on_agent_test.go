// The driver on a real agent: how it is taken up, and the behaviours of the job files.

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

// commandLineJobs are the job files that are also run by the script for people, as a proof of the script: one that runs,
// one that is refused, one that dies.
var commandLineJobs = []string{"reloads", "refuses-a-bad-duration", "fails"}

// scriptLimit bounds the script. Each of its many calls starts this large executable.
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
	// lineHead is the time, the level and the logger; the same thing is said by more than one.
	lineHead = regexp.MustCompile(`^\S+\s+\[\w+\]\s+\S+:\s+`)
	// lineValues are the key=value pairs behind the message: they differ from run to run.
	lineValues = regexp.MustCompile(`:?\s+\S+=.*$`)
	// byTiming is what a server says in one start and not in another: elections, and a client that registers before the
	// keyring is ready.
	byTiming = regexp.MustCompile(`\] +(nomad[.:]|client\.rpc:|client: error registering)`)
)

// message is what a log line says, without when, by whom and of what in particular.
func message(line string) string {
	return lineValues.ReplaceAllString(lineHead.ReplaceAllString(line, ""), "")
}

// usualWarnings is what an agent without the driver says at its start on this machine.
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
			t.Errorf("only with the plugin: %s", line)
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
		t.Error("the node does not tell the driver's version")
	}
	if told := node.Drivers[driverName].HealthDescription; told != "Healthy" {
		t.Errorf("the health is described as %q", told)
	}
}

// mustRunFromTheCommandLine proves the script that people run, with this executable as the `nomad` on the PATH.
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

	// A job that does not do what its comment says must be noticed.
	command = exec.Command(script, "starts")
	command.Env = here.environment("NOMAD_ADDR=http://127.0.0.1:1", "PATH="+filepath.Dir(here.nomad)+":"+os.Getenv("PATH"))
	if output, err := command.CombinedOutput(); err == nil || !strings.Contains(string(output), "FAILED") {
		t.Errorf("without an agent the script says %v: %s", err, output)
	}
}
