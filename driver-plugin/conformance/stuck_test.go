// Supervisors that do not reply: every call of Nomad's driver client ends, and nothing is left that accepts clients.

package conformance

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
)

const (
	// recoverBound is 10 s for a reply, and 5 s for the end of each of the two processes after SIGKILL.
	recoverBound = 20 * time.Second
	// stopBound is the time of the stop, 7 s for a reply, and the same for the processes.
	stopBound = stopTimeout + 17*time.Second
	// destroyBound is 6 s for a reply, and the same for the processes.
	destroyBound = 16 * time.Second
	// onABusyMachine is added to each bound.
	onABusyMachine = 10 * time.Second
)

// withAStoppedSupervisor starts a task and stops its supervisor with SIGSTOP.
func withAStoppedSupervisor(t *testing.T, h *host) (*drivers.TaskConfig, *drivers.TaskHandle) {
	t.Helper()
	task, handle := h.start(fullConfig)
	supervisor, err := driverProcess(h.executable(), roleSupervisor)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(supervisor.pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	return task, handle
}

func TestAStoppedSupervisorHoldsNothingUp(t *testing.T) {
	for name, call := range map[string]struct {
		within time.Duration
		do     func(*testing.T, *host, *drivers.TaskConfig, *drivers.TaskHandle) error
	}{
		"recover": {recoverBound, func(t *testing.T, h *host, _ *drivers.TaskConfig, handle *drivers.TaskHandle) error {
			if err := h.driver.RecoverTask(stored(t, handle)); err == nil {
				return fmt.Errorf("a task whose supervisor does not reply was recovered")
			} else {
				mustSay(t, err.Error(), "did not reply", "killed with its proxy process")
			}
			return nil
		}},
		"stop": {stopBound, func(t *testing.T, h *host, task *drivers.TaskConfig, _ *drivers.TaskHandle) error {
			ended := h.wait(task.ID)
			err := h.driver.StopTask(task.ID, stopTimeout, "")
			receive(t, soon, "the end of the task", ended)
			return err
		}},
		"destroy": {destroyBound, func(_ *testing.T, h *host, task *drivers.TaskConfig, _ *drivers.TaskHandle) error {
			return h.driver.DestroyTask(task.ID, true)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			task, handle := withAStoppedSupervisor(t, h)
			if name == "recover" {
				h.instance.Kill()
				h.dispense()
			}
			began := time.Now()
			if err := call.do(t, h, task, handle); err != nil {
				t.Error(err)
			}
			taken := time.Since(began)
			t.Logf("%s took %v", name, taken.Round(time.Millisecond))
			if taken > call.within+onABusyMachine {
				t.Errorf("it took %v", taken)
			}
			for _, label := range []string{"pg", "pgro", "admin"} {
				if listening(address(task, label)) == nil {
					t.Errorf("something listens on the port %q", label)
				}
			}
			for _, left := range driverProcesses(h.executable()) {
				if left.role != rolePlugin {
					t.Errorf("the process %v is left", left)
				}
			}
		})
	}
}
