// One address has one live task: two jobs that want the same one, and a job that gets another name.

package conformance

import (
	"net"
	"testing"
	"time"

	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/drivers"
)

// successor is a task of this job on the ports of another one. It is destroyed at the end of the test.
func (h *host) successor(of *drivers.TaskConfig, jobID string) *drivers.TaskConfig {
	h.t.Helper()
	task := h.newTask()
	task.JobID, task.JobName = jobID, jobID
	task.Resources.Ports = of.Resources.Ports
	if err := h.encode(task, fullConfig); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		_ = h.driver.StopTask(task.ID, 0, "")
		_ = h.driver.DestroyTask(task.ID, true)
	})
	return task
}

// mustRefuse starts a task that another one keeps from its address.
func (h *host) mustRefuse(task, occupant *drivers.TaskConfig) {
	h.t.Helper()
	_, _, err := h.driver.StartTask(task)
	if err == nil {
		h.t.Fatal("two tasks have one address")
	}
	if !structs.IsRecoverable(err) {
		h.t.Errorf("Nomad is told not to try again: %v", err)
	}
	mustSay(h.t, err.Error(), "accepts clients on "+address(occupant, "pg"), "the job `"+occupant.JobID+"`", occupant.AllocID)
}

func TestTwoJobsOnOneAddress(t *testing.T) {
	h := newHost(t)
	first := h.newTask()
	first = h.successor(first, "one")
	if _, _, err := h.driver.StartTask(first); err != nil {
		t.Fatal(err)
	}
	before, err := proxyOf(first.AllocID, first.Name)
	if err != nil {
		t.Fatal(err)
	}
	h.mustRefuse(h.successor(first, "another"), first)
	if !before.alive() {
		t.Error("the first task's process is gone")
	}
	if err := listening(address(first, "pg")); err != nil {
		t.Error(err)
	}
}

// Nomad runs the job under its new name while the old one still runs, and tries again until that is stopped.
func TestARenamedJob(t *testing.T) {
	h := newHost(t)
	first := h.successor(h.newTask(), "old")
	if _, _, err := h.driver.StartTask(first); err != nil {
		t.Fatal(err)
	}
	renamed := h.successor(first, "new")
	h.mustRefuse(renamed, first)
	if err := h.driver.StopTask(first.ID, stopTimeout, ""); err != nil {
		t.Fatal(err)
	}
	waiting, err := net.Dial("tcp", address(first, "pg"))
	if err != nil {
		t.Fatalf("the sockets are kept, but: %v", err)
	}
	defer waiting.Close()
	if _, _, err := h.driver.StartTask(renamed); err != nil {
		t.Fatalf("the address is free for the next attempt, but: %v", err)
	}
	// It wanted the old job's database.
	_ = waiting.SetReadDeadline(time.Now().Add(soon))
	if _, err := waiting.Read(make([]byte, 1)); err == nil {
		t.Error("a client of the old job is answered by the new one")
	} else if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		t.Error("a client of the old job waits in vain")
	}
	for range 20 {
		mustBeAnswered(t, address(renamed, "pg"))
	}
}

// mustBeAnswered checks that somebody accepts: of a socket that is only kept nobody closes connections.
func mustBeAnswered(t *testing.T, address string) {
	t.Helper()
	client, err := net.DialTimeout("tcp", address, soon)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	// A CancelRequest of an unknown session: length, code, process, key. The proxy closes the connection.
	if _, err := client.Write([]byte("\x00\x00\x00\x10\x04\xd2\x16\x2e\x00\x00\x00\x01\x00\x00\x00\x02")); err != nil {
		t.Fatal(err)
	}
	_ = client.SetReadDeadline(time.Now().Add(soon))
	if _, err := client.Read(make([]byte, 1)); err == nil {
		t.Error("bytes follow a CancelRequest")
	} else if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		t.Errorf("nobody accepts on %s", address)
	}
}
