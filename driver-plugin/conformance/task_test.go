// The lifecycle of a task with Nomad's driver client: start, wait, statistics, signal, exec, stop.

package conformance

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/hashicorp/nomad/plugins/drivers/testutils"
)

const (
	// samples is how many samples of the statistics are checked.
	samples       = 3
	statsInterval = time.Second
	stopTimeout   = 5 * time.Second
	execTimeout   = 20 * time.Second
)

func TestTheLifecycleOfATask(t *testing.T) {
	h := newHost(t)
	task, handle := h.start(fullConfig)
	if handle.Version < 1 || handle.State != drivers.TaskStateRunning || len(handle.DriverState) == 0 {
		t.Errorf("Nomad cannot recover a task with this handle: version %d, state %q, %d bytes",
			handle.Version, handle.State, len(handle.DriverState))
	}
	if handle.Config == nil || handle.Config.ID != task.ID || handle.Config.AllocID != task.AllocID {
		t.Errorf("the handle does not hold the task's config: %+v", handle.Config)
	}
	first, second := h.wait(task.ID), h.wait(task.ID)

	t.Run("inspect", func(t *testing.T) { mustInspectRunning(t, h, task) })
	t.Run("stats", func(t *testing.T) { mustMeasure(t, h, task.ID) })
	t.Run("signal", func(t *testing.T) { mustReload(t, h, task) })
	t.Run("exec", func(t *testing.T) { mustExecute(t, h, task.ID) })
	t.Run("logs", func(t *testing.T) { mustLog(t, task, "listening") })

	if err := h.driver.StopTask(task.ID, stopTimeout, ""); err != nil {
		t.Fatal(err)
	}
	for _, ended := range []<-chan *drivers.ExitResult{first, second, h.wait(task.ID)} {
		result := receive(t, soon, "the end of the task", ended)
		if !result.Successful() {
			t.Errorf("ended with %+v", result)
		}
	}
	status, err := h.driver.InspectTask(task.ID)
	if err != nil {
		t.Fatal(err)
	}
	if status.State != drivers.TaskStateExited || status.CompletedAt.Before(status.StartedAt) {
		t.Errorf("after the end: %+v", status)
	}
	mustDestroy(t, h, task)
}

func mustInspectRunning(t *testing.T, h *host, task *drivers.TaskConfig) {
	status, err := h.driver.InspectTask(task.ID)
	if err != nil {
		t.Fatal(err)
	}
	if status.ID != task.ID || status.Name != task.Name || status.State != drivers.TaskStateRunning {
		t.Errorf("%+v", status)
	}
	if age := time.Since(status.StartedAt); age < 0 || age > patience {
		t.Errorf("started at %v", status.StartedAt)
	}
	if !status.CompletedAt.IsZero() {
		t.Errorf("a running task was completed at %v", status.CompletedAt)
	}
}

func mustMeasure(t *testing.T, h *host, id string) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := h.driver.TaskStats(ctx, id, statsInterval)
	if err != nil {
		t.Fatal(err)
	}
	for range samples {
		sample := receive(t, soon, "a sample", stream)
		usage := sample.ResourceUsage
		if usage == nil || usage.MemoryStats == nil || usage.CpuStats == nil {
			t.Fatalf("a sample without figures: %+v", sample)
		}
		if age := time.Since(time.Unix(0, sample.Timestamp)); age < -time.Second || age > soon {
			t.Errorf("the sample is %v old", age)
		}
		if usage.MemoryStats.RSS < 64<<10 || usage.MemoryStats.RSS > 128<<20 {
			t.Errorf("%d bytes resident, with a limit of 128 MiB", usage.MemoryStats.RSS)
		}
		if percent := usage.CpuStats.Percent; percent < 0 || percent > 1000 {
			t.Errorf("%v percent of a core", percent)
		}
		if len(usage.MemoryStats.Measured) == 0 || len(usage.CpuStats.Measured) == 0 {
			t.Errorf("nothing is measured: %+v", usage)
		}
	}
}

// mustReload sends SIGHUP, which must neither replace the process nor stop it from accepting clients.
func mustReload(t *testing.T, h *host, task *drivers.TaskConfig) {
	before, err := proxyOf(task.AllocID, task.Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.driver.SignalTask(task.ID, "SIGHUP"); err != nil {
		t.Fatal(err)
	}
	mustLog(t, task, "configuration reloaded")
	if !before.alive() {
		t.Error("SIGHUP has replaced the process")
	}
	if err := listening(address(task, "pg")); err != nil {
		t.Error(err)
	}
	err = h.driver.SignalTask(task.ID, "SIGNONE")
	if err == nil {
		t.Fatal("an unknown signal was accepted")
	}
	mustSay(t, err.Error(), "SIGNONE", "SIGHUP")
}

func mustExecute(t *testing.T, h *host, id string) {
	result, err := h.driver.ExecTask(id, []string{"/bin/sh", "-c", "echo out; echo err >&2; exit 3"}, execTimeout)
	if err != nil {
		t.Fatal(err)
	}
	if result.ExitResult == nil || result.ExitResult.ExitCode != 3 {
		t.Errorf("exit result %+v", result.ExitResult)
	}
	mustSay(t, string(result.Stdout)+string(result.Stderr), "out", "err")
	if _, err := h.driver.ExecTask(id, []string{"/bin/sleep", "60"}, time.Second); err == nil {
		t.Error("a command that outlasts its timeout was no error")
	}
}

// mustLog waits until the collected log of the task contains a text.
func mustLog(t testing.TB, task *drivers.TaskConfig, text string) {
	t.Helper()
	pattern := filepath.Join(task.TaskDir().LogDir, task.Name+".std*.[0-9]*")
	eventually(t, soon, fmt.Sprintf("%q in the task's log", text), func() error {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		var all strings.Builder
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			all.Write(content)
		}
		if !strings.Contains(all.String(), text) {
			return fmt.Errorf("the log is %q", all.String())
		}
		return nil
	})
}

// mustDestroy destroys a task that has exited, checks that nothing is left, and that a repetition is no error.
func mustDestroy(t *testing.T, h *host, task *drivers.TaskConfig) {
	t.Helper()
	for range 2 {
		if err := h.driver.DestroyTask(task.ID, true); err != nil {
			t.Errorf("destroy: %v", err)
		}
		if err := h.driver.StopTask(task.ID, stopTimeout, ""); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
	if _, err := h.driver.InspectTask(task.ID); err == nil {
		t.Error("the destroyed task is still known")
	}
	eventually(t, soon, "no process and no file of the task is left", func() error {
		if left := driverProcesses(h.executable()); len(left) != 1 || left[0].role != rolePlugin {
			return fmt.Errorf("processes %v", left)
		}
		entries, err := os.ReadDir(h.state)
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		if len(entries) != 0 {
			return fmt.Errorf("%s holds %v", h.state, entries)
		}
		return nil
	})
}

func TestUnknownTasks(t *testing.T) {
	h := newHost(t)
	const id = "no-such-alloc/proxy/00000000"
	if err := h.driver.StopTask(id, stopTimeout, ""); err != nil {
		t.Errorf("stop, which Nomad would repeat for minutes: %v", err)
	}
	if err := h.driver.DestroyTask(id, true); err != nil {
		t.Errorf("destroy: %v", err)
	}
	if result := receive(t, soon, "a result", h.wait(id)); result.Err == nil {
		t.Error("an unknown task has exited successfully")
	}
	_, inspected := h.driver.InspectTask(id)
	_, executed := h.driver.ExecTask(id, []string{"/bin/true"}, execTimeout)
	for what, err := range map[string]error{
		"inspect": inspected, "exec": executed, "signal": h.driver.SignalTask(id, "SIGHUP"),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
		} else if !strings.Contains(err.Error(), "task not found") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestADeathBySignalIsReported(t *testing.T) {
	h := newHost(t)
	task, _ := h.start(fullConfig)
	ended := h.wait(task.ID)
	if err := h.driver.SignalTask(task.ID, "SIGKILL"); err != nil {
		t.Fatal(err)
	}
	mustBeKilled(t, receive(t, soon, "the end of the task", ended))
	mustDestroy(t, h, task)
}

// mustBeKilled checks signal and exit code after SIGKILL.
func mustBeKilled(t *testing.T, result *drivers.ExitResult) {
	t.Helper()
	if result.Err != nil || result.Signal != int(syscall.SIGKILL) || result.ExitCode != 128+int(syscall.SIGKILL) {
		t.Errorf("after SIGKILL: %+v", result)
	}
}

func TestStopWithoutTimeIsImmediate(t *testing.T) {
	h := newHost(t)
	task, _ := h.start(fullConfig)
	ended := h.wait(task.ID)
	if err := h.driver.StopTask(task.ID, 0, ""); err != nil {
		t.Fatal(err)
	}
	mustBeKilled(t, receive(t, soon, "the end of the task", ended))
}

// The suite of Nomad's own drivers. The driver client takes the place of an implementation.
func TestExecConformance(t *testing.T) {
	h := newHost(t)
	task, _ := h.start(fullConfig)
	testutils.ExecTaskStreamingConformanceTests(t, testutils.NewDriverHarness(t, h.driver), task.ID)
}

// Only a faulty host would do this.
func TestTheSameTaskIsNotStartedTwice(t *testing.T) {
	h := newHost(t)
	task, _ := h.start(fullConfig)
	before, err := proxyOf(task.AllocID, task.Name)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.driver.StartTask(task); err == nil {
		t.Error("a task that runs was started again")
	}
	if !before.alive() {
		t.Error("the first process of the task is gone")
	}
	if _, ok := h.instance.Plugin().(base.BasePlugin); !ok || h.instance.Exited() {
		t.Error("the plugin is gone")
	}
}
