// A real Nomad agent, server and client in one, in its own process, which tests can kill and start again.

package conformance

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	"github.com/hashicorp/nomad/api"
)

const (
	// agentEnd bounds the graceful shutdown of an agent. Its tasks continue, so there is little to do.
	agentEnd = time.Minute
	// logTail is how many lines of an agent's log a failed test shows.
	logTail = 60
)

// agentConfig is the agent's configuration. The disabled fingerprints contact other machines. `meta` satisfies the
// constraint of the deployment's job.
var agentConfig = template.Must(template.New("agent").Parse(`
name                 = "conformance"
data_dir             = "{{.Directory}}/data"
plugin_dir           = "{{.Plugins}}"
log_level            = "DEBUG"
disable_update_check = true
bind_addr            = "127.0.0.1"
advertise {
  http = "127.0.0.1"
  rpc  = "127.0.0.1"
  serf = "127.0.0.1"
}
ports {
  http = {{.HTTP}}
  rpc  = {{.RPC}}
  serf = {{.Serf}}
}
server {
  enabled          = true
  bootstrap_expect = 1
}
client {
  enabled           = true
  network_interface = "lo"
  max_kill_timeout  = "60s"
  options {
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean,consul,vault,cni"
  }
  meta {
    stateful = "true"
  }
  host_volume "pglp-e2e" {
    path = "{{.Directory}}/volume"
  }
}
# Without this Nomad requests no statistics from drivers.
telemetry {
  publish_allocation_metrics = true
}
{{if .WithDriver}}
plugin "{{.File}}" {
  config {
    state_dir = "{{.Directory}}/s"
  }
}
{{end}}
`))

type agent struct {
	t          testing.TB
	Directory  string
	Plugins    string
	File       string
	HTTP       int
	RPC        int
	Serf       int
	WithDriver bool

	api    *api.Client
	log    *os.File
	pid    int
	exited chan struct{}
}

// startAgent starts an agent and waits until it can place jobs. The agent is stopped at the end of the test.
func startAgent(t testing.TB, withDriver bool) *agent {
	t.Helper()
	a := &agent{
		t: t, Directory: scratch(t), File: driverFile, WithDriver: withDriver,
		HTTP: freePort(t), RPC: freePort(t), Serf: freePort(t),
	}
	a.Plugins = filepath.Join(a.Directory, "plugins")
	for _, directory := range []string{a.Plugins, filepath.Join(a.Directory, "volume")} {
		if err := os.Mkdir(directory, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if withDriver {
		pluginDirectory(t, a.Directory)
	}
	a.writeConfig()
	client, err := api.NewClient(&api.Config{Address: a.address()})
	if err != nil {
		t.Fatal(err)
	}
	a.api = client
	t.Cleanup(a.finish)
	a.start()
	return a
}

func (a *agent) address() string    { return fmt.Sprintf("http://127.0.0.1:%d", a.HTTP) }
func (a *agent) executable() string { return filepath.Join(a.Plugins, driverFile) }
func (a *agent) logFile() string    { return filepath.Join(a.Directory, "agent.log") }

func (a *agent) writeConfig() {
	a.t.Helper()
	file, err := os.Create(filepath.Join(a.Directory, "agent.hcl"))
	if err != nil {
		a.t.Fatal(err)
	}
	defer file.Close()
	if err := agentConfig.Execute(file, a); err != nil {
		a.t.Fatal(err)
	}
}

// start starts the process and waits until it is ready. It appends to the same log file.
func (a *agent) start() {
	a.t.Helper()
	a.launch()
	eventually(a.t, patience, "the agent is ready", a.ready)
}

func (a *agent) launch() {
	a.t.Helper()
	log, err := os.OpenFile(a.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		a.t.Fatal(err)
	}
	command := exec.Command(here.nomad, "agent", "-config="+filepath.Join(a.Directory, "agent.hcl"))
	command.Env = here.environment()
	command.Dir = a.Directory
	command.Stdout, command.Stderr = log, log
	// Its own process group: a Ctrl-C reaches the tests only, which then stop the agent in order.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := command.Start(); err != nil {
		a.t.Fatal(err)
	}
	a.log, a.pid, a.exited = log, command.Process.Pid, make(chan struct{})
	exited := a.exited
	go func() {
		_ = command.Wait()
		_ = log.Close()
		close(exited)
	}()
}

func (a *agent) running() bool {
	select {
	case <-a.exited:
		return false
	default:
		return true
	}
}

// ready returns no error when jobs can be placed: there is a leader, and the node is ready with a healthy driver.
func (a *agent) ready() error {
	if !a.running() {
		return fmt.Errorf("the agent has exited: %s", a.tail())
	}
	health, err := a.api.Agent().Health()
	if err != nil {
		return err
	}
	if !health.Server.Ok || health.Client == nil || !health.Client.Ok {
		return fmt.Errorf("health %+v", health)
	}
	if leader, err := a.api.Status().Leader(); err != nil || leader == "" {
		return fmt.Errorf("leader %q, %v", leader, err)
	}
	node, err := a.node()
	if err != nil {
		return err
	}
	if node.Status != api.NodeStatusReady || node.SchedulingEligibility != api.NodeSchedulingEligible {
		return fmt.Errorf("node %s, %s", node.Status, node.SchedulingEligibility)
	}
	if driver := node.Drivers[driverName]; a.WithDriver && (driver == nil || !driver.Detected || !driver.Healthy) {
		return fmt.Errorf("driver %+v", driver)
	}
	return nil
}

func (a *agent) node() (*api.Node, error) {
	nodes, _, err := a.api.Nodes().List(nil)
	if err != nil {
		return nil, err
	}
	if len(nodes) != 1 {
		return nil, fmt.Errorf("%d nodes", len(nodes))
	}
	node, _, err := a.api.Nodes().Info(nodes[0].ID, nil)
	return node, err
}

// stop ends the agent as an init system does. Its tasks continue.
func (a *agent) stop() { a.end(syscall.SIGINT) }

// kill ends the agent as a crash does. Its tasks, the plugin and the log collectors continue.
func (a *agent) kill() { a.end(syscall.SIGKILL) }

func (a *agent) end(signal syscall.Signal) {
	a.t.Helper()
	if err := syscall.Kill(a.pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		a.t.Fatal(err)
	}
	select {
	case <-a.exited:
	case <-time.After(agentEnd):
		a.t.Fatalf("the agent did not end within %v of %v", agentEnd, signal)
	}
}

// finish stops all jobs and the agent, and checks that no process of the driver is left.
func (a *agent) finish() {
	if a.t.Failed() {
		a.t.Logf("the agent's log ends with:\n%s", a.tail())
	}
	if a.exited == nil {
		return
	}
	if a.running() {
		a.stopJobs()
		a.end(syscall.SIGINT)
	}
	eventually(a.t, soon, "no process of the driver is left", func() error {
		if left := driverProcesses(a.executable()); len(left) != 0 {
			return fmt.Errorf("processes %v", left)
		}
		return nil
	})
}

func (a *agent) stopJobs() {
	jobs, _, err := a.api.Jobs().List(nil)
	if err != nil {
		a.t.Errorf("listing the jobs: %v", err)
		return
	}
	for _, job := range jobs {
		if _, _, err := a.api.Jobs().Deregister(job.ID, false, nil); err != nil {
			a.t.Errorf("stopping the job %s: %v", job.ID, err)
		}
	}
	eventually(a.t, patience, "all allocations have ended", func() error {
		allocations, _, err := a.api.Allocations().List(nil)
		if err != nil {
			return err
		}
		for _, allocation := range allocations {
			if allocation.ClientStatus == api.AllocClientStatusRunning ||
				allocation.ClientStatus == api.AllocClientStatusPending {
				return fmt.Errorf("%s is %s", allocation.Name, allocation.ClientStatus)
			}
		}
		return nil
	})
}

// tail is the end of the agent's log, without the requests of the tests.
func (a *agent) tail() string {
	content, err := os.ReadFile(a.logFile())
	if err != nil {
		return err.Error()
	}
	var kept []string
	for line := range strings.Lines(string(content)) {
		if !strings.Contains(line, "http: request complete") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept[max(0, len(kept)-logTail):], "")
}

// warnings are the warnings and errors in the agent's log.
func (a *agent) warnings() []string {
	a.t.Helper()
	content, err := os.ReadFile(a.logFile())
	if err != nil {
		a.t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(content)) {
		if strings.Contains(line, "[WARN]") || strings.Contains(line, "[ERROR]") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}
