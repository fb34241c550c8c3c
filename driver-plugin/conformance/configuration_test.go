// A task's config block: what the schema accepts, and the error for each fault.

package conformance

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/drivers"
)

// Nothing listens at this address. The proxy starts nevertheless, and holds its clients.
const unreachableEtcd = "http://127.0.0.1:1"

// fullConfig is the config block of the README. It has every kind of value.
const fullConfig = `
cluster { scope = "vietmarket" }
etcd    { endpoints = ["` + unreachableEtcd + `"] }
probe   { user = "monitor" }
write   { port = "pg" }
read {
  port    = "pgro"
  max_lag = "16MiB"
}
admin { port = "admin" }
`

func TestTheConfigOfTheReadmeStarts(t *testing.T) {
	h := newHost(t)
	task, _ := h.start(fullConfig)
	for _, label := range []string{"pg", "pgro", "admin"} {
		if err := listening(address(task, label)); err != nil {
			t.Errorf("the port %q: %v", label, err)
		}
	}
}

// with is a valid config block in which some parts are replaced, or removed when they are replaced by nothing.
func with(replacements ...string) string {
	parts := []string{
		`cluster { scope = "vietmarket" }`,
		`etcd { endpoints = ["` + unreachableEtcd + `"] }`,
		`probe { user = "monitor" }`,
		`write { port = "pg" }`,
		`admin { port = "admin" }`,
	}
	for _, replacement := range replacements {
		block, _, _ := strings.Cut(replacement, " ")
		found := false
		for i, part := range parts {
			if strings.HasPrefix(part, block+" ") {
				parts[i], found = strings.TrimPrefix(replacement, block+" -"), true
			}
		}
		if !found {
			parts = append(parts, replacement)
		}
	}
	return strings.Join(parts, "\n")
}

var faults = []struct {
	name   string
	config string
	said   []string
}{
	{"missing scope", with(`cluster { namespace = "/service" }`), []string{"cluster.scope"}},
	{"missing cluster block", with(`cluster -`), []string{"cluster.scope"}},
	{"missing probe user", with(`probe { database = "postgres" }`), []string{"user"}},
	{"unknown block", with(`wirte { port = "pg" }`), []string{"wirte"}},
	{"unknown key", with(`write { prot = "pg" }`), []string{"prot"}},
	{"unknown port label", with(`write { port = "nope" }`), []string{"write.port", "nope", "pg"}},
	{"bad duration", with("write {\nport = \"pg\"\nhold_timeout = \"soon\"\n}"), []string{"write.hold_timeout", "soon"}},
	{"duration without a unit", with("write {\nport = \"pg\"\nhold_timeout = 30\n}"), []string{"write.hold_timeout", "30"}},
	{"bad size", with("read {\nport = \"pgro\"\nmax_lag = \"much\"\n}"), []string{"read.max_lag", "much"}},
	{"invalid number", with("write {\nport = \"pg\"\nmax_held = \"many\"\n}"), []string{"max_held"}},
	{"number out of range", with("write {\nport = \"pg\"\nmax_held = 0\n}"), []string{"write.max_held", "0"}},
	{"fraction for a number", with("write {\nport = \"pg\"\nmax_held = 0.1\n}"), []string{"write.max_held", "0.1"}},
	{"unknown choice", with("policy { on_dcs_loss = \"pray\" }"), []string{"policy.on_dcs_loss", "pray"}},
	{"bad endpoint", with(`etcd { endpoints = ["10.0.0.1"] }`), []string{"etcd.endpoints", "10.0.0.1"}},
	{"endpoints that are not a list", with(`etcd { endpoints = "http://10.0.0.1:2379" }`), []string{"endpoints"}},
	{
		"unreadable password", with("probe {\nuser = \"monitor\"\npassword_file = \"/nonexistent/password\"\n}"),
		[]string{"probe.password_file", "/nonexistent/password"},
	},
	{
		"password variable that is not set", with("probe {\nuser = \"monitor\"\npassword_env = \"NOT_SET\"\n}"),
		[]string{"probe.password_env", "NOT_SET"},
	},
}

func TestFaultsInTheConfigAreNamed(t *testing.T) {
	h := newHost(t)
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			inner := *h
			inner.t = t
			// Faults that the schema finds need no task.
			err := inner.encode(new(drivers.TaskConfig), fault.config)
			if err == nil {
				err = inner.startFaulty(fault.config)
			}
			if err == nil {
				t.Fatal("accepted")
			}
			t.Log(err)
			mustSay(t, err.Error(), fault.said...)
			if structs.IsRecoverable(err) {
				t.Error("Nomad is told to try again, but the same config will fail again")
			}
		})
	}
	if left := driverProcesses(h.executable()); len(left) != 1 {
		t.Errorf("processes are left beside the plugin: %v", left)
	}
}

// startFaulty starts a task that must not start. One that does is stopped again.
func (h *host) startFaulty(text string) error {
	h.t.Helper()
	task := h.newTask()
	if err := h.encode(task, text); err != nil {
		h.t.Fatal(err)
	}
	_, _, err := h.driver.StartTask(task)
	if err == nil {
		_ = h.driver.StopTask(task.ID, 0, "")
		_ = h.driver.DestroyTask(task.ID, true)
	}
	return err
}

func TestUnsupportedRequestsAreRejected(t *testing.T) {
	h := newHost(t)
	for name, change := range map[string]func(*drivers.TaskConfig) string{
		"mount": func(task *drivers.TaskConfig) string {
			task.Mounts = []*drivers.MountConfig{{TaskPath: "/data", HostPath: "/tmp"}}
			return "/data"
		},
		"device": func(task *drivers.TaskConfig) string {
			task.Devices = []*drivers.DeviceConfig{{TaskPath: "/dev/null", HostPath: "/dev/null", Permissions: "r"}}
			return "/dev/null"
		},
		"network of its own": func(task *drivers.TaskConfig) string {
			task.NetworkIsolation = &drivers.NetworkIsolationSpec{Mode: drivers.NetIsolationModeGroup, Path: "/proc/self/ns/net"}
			return "network"
		},
		"unknown user": func(task *drivers.TaskConfig) string {
			task.User = "no-such-user"
			return task.User
		},
	} {
		t.Run(name, func(t *testing.T) {
			inner := *h
			inner.t = t
			task := inner.newTask()
			said := change(task)
			if err := inner.encode(task, fullConfig); err != nil {
				t.Fatal(err)
			}
			_, _, err := inner.driver.StartTask(task)
			if err == nil {
				_ = inner.driver.StopTask(task.ID, 0, "")
				_ = inner.driver.DestroyTask(task.ID, true)
				t.Fatal("accepted")
			}
			mustSay(t, err.Error(), said)
			if structs.IsRecoverable(err) {
				t.Errorf("Nomad is told to try again: %v", err)
			}
		})
	}
}

func TestAnAddressInUseIsARecoverableError(t *testing.T) {
	h := newHost(t)
	task := h.newTask()
	port, _ := task.Resources.Ports.Get("pg")
	occupied := occupy(t, fmt.Sprintf("%s:%d", port.HostIP, port.Value))
	if err := h.encode(task, fullConfig); err != nil {
		t.Fatal(err)
	}
	_, _, err := h.driver.StartTask(task)
	if err == nil {
		t.Fatal("a task has started on an address that is in use")
	}
	mustSay(t, err.Error(), occupied)
	if !structs.IsRecoverable(err) {
		t.Errorf("Nomad is told not to try again: %v", err)
	}
}
