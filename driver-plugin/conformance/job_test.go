// Jobs on an agent: parse, run, inspect, stop.

package conformance

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"github.com/hashicorp/nomad/jobspec2"
)

// job is a job on an agent.
type job struct {
	t     testing.TB
	agent *agent
	id    string
}

// readJob parses a job file with variables, as `nomad job run -var NAME=VALUE FILE` does.
func readJob(t testing.TB, file string, variables map[string]string) *api.Job {
	t.Helper()
	path := filepath.Join(repository, file)
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var arguments []string
	for name, value := range variables {
		arguments = append(arguments, name+"="+value)
	}
	parsed, err := jobspec2.ParseWithConfig(&jobspec2.ParseConfig{
		Path: path, Body: body, ArgVars: arguments, AllowFS: true, Strict: true,
	})
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return parsed
}

// run registers a job, or a new version of it.
func (a *agent) run(t testing.TB, parsed *api.Job) *job {
	t.Helper()
	if _, _, err := a.api.Jobs().Register(parsed, nil); err != nil {
		t.Fatal(err)
	}
	return &job{t: t, agent: a, id: *parsed.ID}
}

// stop stops the job without waiting for the end of its tasks.
func (j *job) stop() {
	j.t.Helper()
	if _, _, err := j.agent.api.Jobs().Deregister(j.id, false, nil); err != nil {
		j.t.Fatal(err)
	}
}

// purge stops and removes the job, so that the same file can be run again: Nomad does not replace a failed allocation
// of a job that it knows.
func (j *job) purge() {
	j.t.Helper()
	if _, _, err := j.agent.api.Jobs().Deregister(j.id, true, nil); err != nil {
		j.t.Error(err)
	}
}

// allocation is the newest allocation of the job.
func (j *job) allocation() (*api.Allocation, error) {
	stubs, _, err := j.agent.api.Jobs().Allocations(j.id, true, nil)
	if err != nil {
		return nil, err
	}
	if len(stubs) == 0 {
		return nil, fmt.Errorf("no allocation: %s", j.blocked())
	}
	newest := stubs[0]
	for _, stub := range stubs {
		if stub.CreateIndex > newest.CreateIndex {
			newest = stub
		}
	}
	allocation, _, err := j.agent.api.Allocations().Info(newest.ID, nil)
	return allocation, err
}

// blocked says why the scheduler placed nothing.
func (j *job) blocked() string {
	evaluations, _, err := j.agent.api.Jobs().Evaluations(j.id, nil)
	if err != nil {
		return err.Error()
	}
	var reasons []string
	for _, evaluation := range evaluations {
		for group, metric := range evaluation.FailedTGAllocs {
			reasons = append(reasons, fmt.Sprintf("%s: filtered %v, exhausted %v",
				group, metric.ConstraintFiltered, metric.DimensionExhausted))
		}
	}
	return fmt.Sprintf("%d evaluations %v", len(evaluations), reasons)
}

// mustRun waits until the newest allocation runs and is not the other one.
func (j *job) mustRun(other string) *api.Allocation {
	j.t.Helper()
	var running *api.Allocation
	eventually(j.t, patience, "the job "+j.id+" runs", func() error {
		allocation, err := j.allocation()
		if err != nil {
			return err
		}
		state := allocation.TaskStates[taskName]
		if state == nil || state.State != "running" || allocation.ID == other {
			return fmt.Errorf("allocation %s is %s; events: %s", allocation.ID, allocation.ClientStatus, events(allocation))
		}
		running = allocation
		return nil
	})
	return running
}

// fresh is the allocation in its present state.
func (j *job) fresh(allocation *api.Allocation) *api.Allocation {
	j.t.Helper()
	now, _, err := j.agent.api.Allocations().Info(allocation.ID, nil)
	if err != nil {
		j.t.Fatal(err)
	}
	return now
}

// taskEvents are the events of the task, oldest first. Nomad keeps ten.
func taskEvents(allocation *api.Allocation) []*api.TaskEvent {
	if state := allocation.TaskStates[taskName]; state != nil {
		return state.Events
	}
	return nil
}

// events is the text of all events of the task.
func events(allocation *api.Allocation) string {
	var text strings.Builder
	for _, event := range taskEvents(allocation) {
		fmt.Fprintf(&text, "[%s] %s %s; ", event.Type, event.DisplayMessage, event.DriverError)
	}
	return text.String()
}

// mustServe checks that statistics and commands work.
func (j *job) mustServe(allocation *api.Allocation) {
	j.t.Helper()
	began := time.Now()
	eventually(j.t, patience, "fresh statistics of the task", func() error {
		usage, err := j.agent.api.Allocations().Stats(allocation, nil)
		if err != nil {
			return err
		}
		task := usage.Tasks[taskName]
		if task == nil || task.ResourceUsage == nil || task.ResourceUsage.MemoryStats == nil ||
			task.ResourceUsage.MemoryStats.RSS == 0 {
			return fmt.Errorf("no memory among %+v", usage)
		}
		if taken := time.Unix(0, task.Timestamp); taken.Before(began) {
			return fmt.Errorf("the last sample was taken at %v", taken)
		}
		return nil
	})
	// After a restart of the agent or the plugin the connection to the task may take a moment.
	eventually(j.t, patience, "a command in the task", func() error {
		code, output, err := j.execute(allocation, "echo from the task; exit 7")
		if err != nil {
			return err
		}
		if code != 7 || output != "from the task\n" {
			return fmt.Errorf("exit code %d, output %q", code, output)
		}
		return nil
	})
}

// execute does what `nomad alloc exec` does, and returns both outputs in one text.
func (j *job) execute(allocation *api.Allocation, script string) (int, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), execTimeout)
	defer cancel()
	var output bytes.Buffer
	code, err := j.agent.api.Allocations().Exec(ctx, allocation, taskName, false, []string{"/bin/sh", "-c", script},
		strings.NewReader(""), &output, &output, nil, nil)
	return code, output.String(), err
}

// log is what the task has written to standard output and standard error.
func (j *job) log(allocation *api.Allocation) (string, error) {
	var all strings.Builder
	for _, stream := range []string{"stdout", "stderr"} {
		cancel := make(chan struct{})
		frames, faults := j.agent.api.AllocFS().Logs(allocation, false, taskName, stream, "start", 0, cancel, nil)
		err := drain(&all, frames, faults)
		close(cancel)
		if err != nil {
			return "", err
		}
	}
	return all.String(), nil
}

func drain(into io.Writer, frames <-chan *api.StreamFrame, faults <-chan error) error {
	end := time.After(soon)
	for {
		select {
		case frame, open := <-frames:
			if !open {
				return nil
			}
			if _, err := into.Write(frame.Data); err != nil {
				return err
			}
		case err := <-faults:
			return err
		case <-end:
			return fmt.Errorf("the log did not end")
		}
	}
}
