// The job files of nomad/e2e/jobs. Each shows one behaviour, and its first comment says step by step what must happen.

package conformance

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/nomad/api"
)

const (
	jobFiles = "nomad/e2e/jobs"
	// stepMark begins a step in a job file. nomad/e2e/run reads the same steps.
	stepMark = "#: "
)

// scenario runs the steps of a job file.
type scenario struct {
	*job
	t     *testing.T
	alloc *api.Allocation
}

// step is a verb of a job file. Its waits are bounded by `patience`.
type step func(*scenario, string)

var steps = map[string]step{
	"running":       (*scenario).running,
	"unchanged":     (*scenario).unchanged,
	"restarted":     (*scenario).restarted,
	"exits":         (*scenario).exits,
	"failed":        (*scenario).failed,
	"log":           (*scenario).logs,
	"listens":       (*scenario).listens,
	"silent":        (*scenario).silent,
	"client":        (*scenario).client,
	"executes":      (*scenario).executes,
	"signal":        (*scenario).signal,
	"stop":          (*scenario).stopIt,
	"agent-restart": (*scenario).restartAgent,
}

// followJobFiles runs all job files in parallel, except those that restart the agent.
func followJobFiles(t *testing.T, a *agent) {
	files, err := filepath.Glob(filepath.Join(repository, jobFiles, "*.nomad.hcl"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no job files: %v", err)
	}
	var alone []string
	// The group ends when all of its parallel tests have ended.
	t.Run("together", func(t *testing.T) {
		for _, file := range files {
			name, lines := filepath.Base(file), readSteps(t, file)
			if contains(lines, "agent-restart") {
				alone = append(alone, name)
				continue
			}
			t.Run(strings.TrimSuffix(name, ".nomad.hcl"), func(t *testing.T) {
				t.Parallel()
				a.follow(t, name, lines)
			})
		}
	})
	for _, name := range alone {
		t.Run(strings.TrimSuffix(name, ".nomad.hcl"), func(t *testing.T) {
			a.follow(t, name, readSteps(t, filepath.Join(repository, jobFiles, name)))
		})
	}
}

// follow runs a job file and its steps.
func (a *agent) follow(t *testing.T, name string, lines []string) {
	started := a.run(t, readJob(t, filepath.Join(jobFiles, name), nil))
	defer started.purge()
	s := &scenario{job: started, t: t}
	for _, line := range lines {
		verb, rest, _ := strings.Cut(line, " ")
		do, known := steps[verb]
		if !known {
			t.Fatalf("%s: no such step: %s", name, line)
		}
		t.Log(line)
		do(s, rest)
	}
}

func readSteps(t *testing.T, file string) []string {
	t.Helper()
	content, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	var lines []string
	for scanner := bufio.NewScanner(content); scanner.Scan(); {
		if step, found := strings.CutPrefix(scanner.Text(), stepMark); found {
			lines = append(lines, step)
		}
	}
	if len(lines) == 0 {
		t.Fatalf("%s has no steps", file)
	}
	return lines
}

func contains(lines []string, line string) bool {
	for _, one := range lines {
		if one == line {
			return true
		}
	}
	return false
}

// look refreshes the allocation and returns the state of the task.
func (s *scenario) look() (*api.TaskState, error) {
	allocation, err := s.allocation()
	if err != nil {
		return nil, err
	}
	s.alloc = allocation
	state := allocation.TaskStates[taskName]
	if state == nil {
		return nil, fmt.Errorf("the task has not started: the allocation is %s, %s",
			allocation.ClientStatus, allocation.ClientDescription)
	}
	return state, nil
}

func (s *scenario) running(string) {
	s.t.Helper()
	s.alloc = s.mustRun("")
}

func (s *scenario) unchanged(string) {
	s.t.Helper()
	state, err := s.look()
	if err != nil {
		s.t.Fatal(err)
	}
	if state.State != "running" || state.Restarts != 0 {
		s.t.Errorf("%s after %d restarts; events: %s", state.State, state.Restarts, events(s.alloc))
	}
}

func (s *scenario) restarted(string) {
	s.t.Helper()
	eventually(s.t, patience, "the task was restarted", func() error {
		state, err := s.look()
		if err != nil {
			return err
		}
		if state.Restarts != 1 {
			return fmt.Errorf("%d restarts; events: %s", state.Restarts, events(s.alloc))
		}
		return nil
	})
}

func (s *scenario) exits(code string) {
	s.t.Helper()
	expected, err := strconv.Atoi(code)
	if err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, patience, "the task has ended", func() error {
		state, err := s.look()
		if err != nil {
			return err
		}
		if state.State != "dead" {
			return fmt.Errorf("%s; events: %s", state.State, events(s.alloc))
		}
		return nil
	})
	for _, event := range taskEvents(s.alloc) {
		if event.Type == api.TaskTerminated {
			if event.ExitCode != expected {
				s.t.Errorf("exit code %d instead of %d", event.ExitCode, expected)
			}
			return
		}
	}
	s.t.Errorf("no event has the exit code; events: %s", events(s.alloc))
}

func (s *scenario) failed(text string) {
	s.t.Helper()
	eventually(s.t, patience, "the task has failed", func() error {
		state, err := s.look()
		if err != nil {
			return err
		}
		if state.State != "dead" || !state.Failed {
			return fmt.Errorf("%s; events: %s", state.State, events(s.alloc))
		}
		return nil
	})
	mustSay(s.t, events(s.alloc), text)
}

func (s *scenario) logs(text string) {
	s.t.Helper()
	eventually(s.t, patience, fmt.Sprintf("%q in the log", text), func() error {
		content, err := s.log(s.alloc)
		if err != nil {
			return err
		}
		if !strings.Contains(content, text) {
			return fmt.Errorf("the log is %q", content)
		}
		return nil
	})
}

// port is the address of a port label.
func (s *scenario) port(label string) string {
	s.t.Helper()
	for _, port := range s.alloc.AllocatedResources.Shared.Ports {
		if port.Label == label {
			return net.JoinHostPort(port.HostIP, strconv.Itoa(port.Value))
		}
	}
	s.t.Fatalf("the allocation has no port %q", label)
	return ""
}

func (s *scenario) listens(label string) {
	s.t.Helper()
	if err := listening(s.port(label)); err != nil {
		s.t.Error(err)
	}
}

// silent waits: the sockets of a task that has exited are kept for a while.
func (s *scenario) silent(label string) {
	s.t.Helper()
	eventually(s.t, patience, "nothing listens", func() error {
		err := listening(s.port(label))
		if err == nil {
			return errors.New("something listens")
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return err
		}
		return nil
	})
}

// client connects, sends a StartupMessage, and stays connected to the end of the scenario.
func (s *scenario) client(label string) {
	s.t.Helper()
	connection, err := net.Dial("tcp", s.port(label))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = connection.Close() })
	// A StartupMessage: length, version 3.0, and a user.
	if _, err := connection.Write([]byte("\x00\x00\x00\x12\x00\x03\x00\x00user\x00e2e\x00\x00")); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scenario) executes(script string) {
	s.t.Helper()
	code, output, err := s.execute(s.alloc, script)
	if err != nil || code != 0 {
		s.t.Errorf("exit code %d, %v, output %q", code, err, output)
	}
}

func (s *scenario) signal(name string) {
	s.t.Helper()
	if err := s.agent.api.Allocations().Signal(s.alloc, nil, taskName, name); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scenario) stopIt(string) {
	s.t.Helper()
	s.stop()
}

// restartAgent stops the agent and starts it again.
func (s *scenario) restartAgent(string) {
	s.t.Helper()
	outer := s.agent.t
	s.agent.t = s.t
	defer func() { s.agent.t = outer }()
	s.agent.stop()
	s.agent.start()
}
