// A plugin host without an agent: Nomad's loader starts the plugin, and Nomad's driver client calls it.

package conformance

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/nomad/client/lib/cgroupslib"
	"github.com/hashicorp/nomad/client/lib/numalib"
	"github.com/hashicorp/nomad/helper/pluginutils/hclspecutils"
	"github.com/hashicorp/nomad/helper/pluginutils/hclutils"
	"github.com/hashicorp/nomad/helper/pluginutils/loader"
	"github.com/hashicorp/nomad/helper/uuid"
	"github.com/hashicorp/nomad/jobspec2"
	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/nomad/structs/config"
	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/hashicorp/nomad/plugins/drivers/testutils"
)

const (
	taskName = "proxy"
	// keepListening is how long the sockets of a task stay open after its exit in these tests.
	keepListening = "3s"
)

// host is a loader with a running plugin.
type host struct {
	t        *testing.T
	loader   *loader.PluginLoader
	plugins  string
	state    string
	instance loader.PluginInstance
	driver   drivers.DriverPlugin
}

// pluginDirectory creates a plugin directory that contains the driver only.
func pluginDirectory(t testing.TB, parent string) string {
	t.Helper()
	directory := filepath.Join(parent, "plugins")
	if err := os.MkdirAll(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(here.driver, filepath.Join(directory, driverFile)); err != nil {
		t.Fatal(err)
	}
	return directory
}

// scratch creates a directory for a test. Its name is short, because the paths of unix sockets in it are bounded.
func scratch(t testing.TB) string {
	t.Helper()
	directory, err := os.MkdirTemp(here.directory, "t")
	if err != nil {
		t.Fatal(err)
	}
	return directory
}

// load does what an agent does first with a plugin directory. It starts and kills the plugin twice.
func load(plugins string, settings map[string]any) (*loader.PluginLoader, error) {
	return loader.NewPluginLoader(&loader.PluginLoaderConfig{
		Logger:            hclog.NewNullLogger(),
		PluginDir:         plugins,
		Configs:           []*config.PluginConfig{{Name: driverFile, Config: settings}},
		SupportedVersions: loader.AgentSupportedApiVersions,
	})
}

func newHost(t *testing.T) *host {
	t.Helper()
	directory := scratch(t)
	h := &host{t: t, plugins: pluginDirectory(t, directory), state: filepath.Join(directory, "s")}
	loaded, err := load(h.plugins, map[string]any{"state_dir": h.state, "keep_listening": keepListening})
	if err != nil {
		t.Fatal(err)
	}
	h.loader = loaded
	h.dispense()
	t.Cleanup(func() { h.instance.Kill() })
	return h
}

// dispense starts a plugin for use, as an agent does after loading and after the death of the plugin.
func (h *host) dispense() {
	h.t.Helper()
	agent := &base.AgentConfig{Driver: &base.ClientDriverConfig{
		ClientMinPort: 14000,
		ClientMaxPort: 14512,
		Topology:      numalib.Scan(numalib.PlatformScanners(true)),
	}}
	instance, err := h.loader.Dispense(driverName, base.PluginTypeDriver, agent, hclog.NewNullLogger())
	if err != nil {
		h.t.Fatal(err)
	}
	driver, ok := instance.Plugin().(drivers.DriverPlugin)
	if !ok {
		h.t.Fatalf("the dispensed plugin is not a driver but a %T", instance.Plugin())
	}
	h.instance, h.driver = instance, driver
}

// executable is the executable of the plugin and of all processes that it starts.
func (h *host) executable() string {
	return filepath.Join(h.plugins, driverFile)
}

// spec is the task schema as Nomad uses it.
func (h *host) spec() hcldec.Spec {
	h.t.Helper()
	schema, err := h.driver.TaskConfigSchema()
	if err != nil {
		h.t.Fatal(err)
	}
	spec, diagnostics := hclspecutils.Convert(schema)
	if diagnostics.HasErrors() {
		h.t.Fatal(diagnostics)
	}
	return spec
}

// encode turns the HCL of a task's config block into what the plugin receives, as Nomad does: job parser, schema,
// msgpack.
func (h *host) encode(task *drivers.TaskConfig, text string) error {
	h.t.Helper()
	job := fmt.Sprintf("job \"j\" {\n group \"g\" {\n task %q {\n driver = %q\n config {\n%s\n}\n}\n}\n}\n",
		taskName, driverName, text)
	parsed, err := jobspec2.ParseWithConfig(&jobspec2.ParseConfig{Path: "j.nomad.hcl", Body: []byte(job), Strict: true})
	if err != nil {
		h.t.Fatalf("the job around this config does not parse: %v\n%s", err, text)
	}
	value, diagnostics, faults := hclutils.ParseHclInterface(parsed.TaskGroups[0].Tasks[0].Config, h.spec(), nil)
	if diagnostics.HasErrors() {
		return fmt.Errorf("%v", faults)
	}
	return task.EncodeDriverConfig(value)
}

// newTask creates what an agent creates before it starts a task: ids, directories, log pipes with a reader, the
// cgroup, and ports with the labels "pg", "pgro" and "admin".
func (h *host) newTask() *drivers.TaskConfig {
	h.t.Helper()
	allocID := uuid.Generate()
	// The agent writes the cores that it may use into its cgroups. Here these are all cores.
	if err := cgroupslib.Init(hclog.NewNullLogger(), fmt.Sprintf("0-%d", runtime.NumCPU()-1)); err != nil {
		h.t.Fatal(err)
	}
	var ports structs.AllocatedPorts
	for _, label := range []string{"pg", "pgro", "admin"} {
		ports = append(ports, structs.AllocatedPortMapping{Label: label, Value: freePort(h.t), HostIP: "127.0.0.1"})
	}
	task := &drivers.TaskConfig{
		ID:        fmt.Sprintf("%s/%s/%s", allocID, taskName, uuid.Short()),
		AllocID:   allocID,
		Name:      taskName,
		JobName:   "j",
		NodeName:  "n",
		Namespace: "default",
		Env:       map[string]string{"PGLP_PROBE_PASSWORD": "secret", "PATH": os.Getenv("PATH")},
		Resources: &drivers.Resources{
			NomadResources: &structs.AllocatedTaskResources{
				Cpu:    structs.AllocatedCpuResources{CpuShares: 200},
				Memory: structs.AllocatedMemoryResources{MemoryMB: 128},
			},
			LinuxResources: &drivers.LinuxResources{
				CPUShares:        200,
				MemoryLimitBytes: 128 << 20,
				PercentTicks:     0.05,
				CpusetCgroupPath: cgroupslib.LinuxResourcesPath(allocID, taskName, false),
			},
			Ports: &ports,
		},
	}
	harness := testutils.NewDriverHarness(h.t, h.driver)
	harness.MakeTaskCgroup(allocID, taskName)
	h.t.Cleanup(harness.MkAllocDir(task, true))
	return task
}

// start starts a task. It is destroyed at the end of the test.
func (h *host) start(text string) (*drivers.TaskConfig, *drivers.TaskHandle) {
	h.t.Helper()
	task := h.newTask()
	if err := h.encode(task, text); err != nil {
		h.t.Fatal(err)
	}
	handle, network, err := h.driver.StartTask(task)
	if err != nil {
		h.t.Fatal(err)
	}
	if network != nil {
		h.t.Fatalf("the driver returned a network: %v", network)
	}
	h.t.Cleanup(func() {
		_ = h.driver.StopTask(task.ID, 0, "")
		_ = h.driver.DestroyTask(task.ID, true)
	})
	return task, handle
}

// wait returns a channel for the exit of a task.
func (h *host) wait(id string) <-chan *drivers.ExitResult {
	h.t.Helper()
	ended, err := h.driver.WaitTask(context.Background(), id)
	if err != nil {
		h.t.Fatal(err)
	}
	return ended
}

// address is the address of a port label.
func address(task *drivers.TaskConfig, label string) string {
	port, _ := task.Resources.Ports.Get(label)
	return net.JoinHostPort(port.HostIP, fmt.Sprint(port.Value))
}

// listening returns no error when connections are accepted, at least into the backlog.
func listening(address string) error {
	connection, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return err
	}
	return connection.Close()
}
