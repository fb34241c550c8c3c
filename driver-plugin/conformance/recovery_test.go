// Tasks survive the end and the death of the plugin.

package conformance

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/drivers"
)

// stored is a handle as an agent restores it: the client's store drops the driver's config.
func stored(t *testing.T, handle *drivers.TaskHandle) *drivers.TaskHandle {
	t.Helper()
	var data []byte
	if err := base.MsgPackEncode(&data, handle); err != nil {
		t.Fatal(err)
	}
	restored := new(drivers.TaskHandle)
	if err := base.MsgPackDecode(data, restored); err != nil {
		t.Fatal(err)
	}
	return restored
}

func TestATaskSurvivesThePlugin(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *host){
		"told to end": func(_ *testing.T, h *host) { h.instance.Kill() },
		"killed":      killPlugin,
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			task, handle := h.start(fullConfig)
			before, err := proxyOf(task.AllocID, task.Name)
			if err != nil {
				t.Fatal(err)
			}
			end(t, h)
			if err := listening(address(task, "pg")); err != nil {
				t.Errorf("while no plugin runs: %v", err)
			}
			h.dispense()
			for range 2 {
				if err := h.driver.RecoverTask(stored(t, handle)); err != nil {
					t.Fatal(err)
				}
			}
			if !before.alive() {
				t.Error("the task's process is another one")
			}
			ended := h.wait(task.ID)
			mustInspectRunning(t, h, task)
			mustMeasure(t, h, task.ID)
			mustReload(t, h, task)
			mustExecute(t, h, task.ID)
			if err := h.driver.StopTask(task.ID, stopTimeout, ""); err != nil {
				t.Fatal(err)
			}
			if result := receive(t, soon, "the end of the task", ended); !result.Successful() {
				t.Errorf("ended with %+v", result)
			}
			mustDestroy(t, h, task)
		})
	}
}

// killPlugin kills the plugin. The host notices at once only if no other process has the plugin's pipes open.
func killPlugin(t *testing.T, h *host) {
	t.Helper()
	plugin, err := driverProcess(h.executable(), rolePlugin)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(plugin.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, "the host notices that the plugin is dead", func() error {
		if !h.instance.Exited() {
			return fmt.Errorf("it has not noticed")
		}
		return nil
	})
}

func TestAnExitWithoutAPluginIsReported(t *testing.T) {
	h := newHost(t)
	task, handle := h.start(fullConfig)
	proxy, err := proxyOf(task.AllocID, task.Name)
	if err != nil {
		t.Fatal(err)
	}
	h.instance.Kill()
	// SIGTERM is no crash, after which the supervisor would start another process.
	if err := syscall.Kill(proxy.pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, "the supervisor has closed the sockets and ended", func() error {
		if left := driverProcesses(h.executable()); len(left) != 0 {
			return fmt.Errorf("processes %v", left)
		}
		return nil
	})
	h.dispense()
	if err := h.driver.RecoverTask(stored(t, handle)); err != nil {
		t.Fatal(err)
	}
	if result := receive(t, soon, "the end of the task", h.wait(task.ID)); !result.Successful() {
		t.Errorf("ended with %+v", result)
	}
	mustDestroy(t, h, task)
}

func TestAnInvalidHandleIsAnError(t *testing.T) {
	h := newHost(t)
	_, handle := h.start(fullConfig)
	for name, refused := range map[string]struct {
		state string
		said  string
	}{
		"no state":                 {"", "state"},
		"nothing readable":         {"{", "state"},
		"state of a later version": {`{"version":1000,"record":null}`, "version 1000"},
	} {
		t.Run(name, func(t *testing.T) {
			invalid := stored(t, handle)
			invalid.Config.ID = "another-alloc/proxy/00000000"
			invalid.DriverState = []byte(refused.state)
			err := h.driver.RecoverTask(invalid)
			if err == nil {
				t.Fatal("accepted")
			}
			mustSay(t, err.Error(), refused.said)
		})
	}
}

// A task hands its sockets over to the next one with the same addresses.
func TestTheNextTaskTakesTheSocketsOver(t *testing.T) {
	h := newHost(t)
	first, _ := h.start(fullConfig)
	next := h.newTask()
	next.Resources.Ports = first.Resources.Ports
	if err := h.encode(next, fullConfig); err != nil {
		t.Fatal(err)
	}
	if err := h.driver.StopTask(first.ID, stopTimeout, ""); err != nil {
		t.Fatal(err)
	}
	if err := h.driver.DestroyTask(first.ID, true); err != nil {
		t.Fatal(err)
	}
	if err := listening(address(first, "pg")); err != nil {
		t.Errorf("nothing listens between the tasks: %v", err)
	}
	if _, _, err := h.driver.StartTask(next); err != nil {
		t.Fatal(err)
	}
	if err := listening(address(next, "pg")); err != nil {
		t.Error(err)
	}
	if err := h.driver.StopTask(next.ID, stopTimeout, ""); err != nil {
		t.Fatal(err)
	}
	mustDestroy(t, h, next)
	if err := listening(address(next, "pg")); err == nil {
		t.Error("something listens after the last task")
	}
}
