// What the layout hands to Nomad's own parts: the drivers' config blocks, the agents' configuration, the policies.

package conformance

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/hashicorp/nomad/acl"
	"github.com/hashicorp/nomad/api"
	nomadagent "github.com/hashicorp/nomad/command/agent"
	"github.com/hashicorp/nomad/drivers/docker"
	"github.com/hashicorp/nomad/drivers/rawexec"
	"github.com/hashicorp/nomad/helper/pluginutils/hclspecutils"
	"github.com/hashicorp/nomad/helper/pluginutils/hclutils"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/zclconf/go-cty/cty"
)

// runtimes are the variables that turn a job into its form without Docker.
var runtimes = map[string][]string{
	"database/etcd":           {members(member(1, `runtime="raw_exec"`), member(2, `runtime="raw_exec"`), member(3, `runtime="raw_exec"`))},
	"database/timescaledb-ha": {"db_runtime=raw_exec"},
	"rollback/pg-haproxy":     {"haproxy_runtime=raw_exec"},
}

// taskVariables are what Nomad's client knows when it hands a config block to the driver.
var taskVariables = map[string]cty.Value{
	"NOMAD_TASK_DIR":    cty.StringVal("/local"),
	"NOMAD_SECRETS_DIR": cty.StringVal("/secrets"),
	"NOMAD_ADDR_s3":     cty.StringVal("10.0.0.1:9000"),
}

// taskDriver is one of Nomad's own drivers, for its schema; nothing of it runs.
func taskDriver(t testing.TB, name string) drivers.DriverPlugin {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	switch name {
	case "docker":
		return docker.NewDockerDriver(ctx, hclog.NewNullLogger())
	case "raw_exec":
		return rawexec.NewRawExecDriver(ctx, hclog.NewNullLogger())
	}
	t.Fatalf("no driver %s", name)
	return nil
}

func decodeConfig(t testing.TB, driver drivers.DriverPlugin, config map[string]any, into any) error {
	t.Helper()
	schema, err := driver.TaskConfigSchema()
	if err != nil {
		t.Fatal(err)
	}
	spec, diagnostics := hclspecutils.Convert(schema)
	if diagnostics.HasErrors() {
		t.Fatal(diagnostics)
	}
	value, diagnostics, faults := hclutils.ParseHclInterface(config, spec, taskVariables)
	if diagnostics.HasErrors() {
		return fmt.Errorf("%v", faults)
	}
	task := new(drivers.TaskConfig)
	if err := task.EncodeDriverConfig(value); err != nil {
		return err
	}
	return task.DecodeDriverConfig(into)
}

func TestEachConfigBlockIsTheDriversOwn(t *testing.T) {
	decoded := map[string]int{}
	check := func(t *testing.T, job *api.Job) {
		for _, group := range job.TaskGroups {
			for _, task := range group.Tasks {
				decoded[task.Driver]++
				switch task.Driver {
				case "docker":
					var config docker.TaskConfig
					if err := decodeConfig(t, taskDriver(t, "docker"), task.Config, &config); err != nil {
						t.Errorf("%s: %v", task.Name, err)
					} else if config.Image == "" || config.ForcePull || config.Privileged {
						t.Errorf("%s: image %q, force_pull %v, privileged %v", task.Name, config.Image, config.ForcePull, config.Privileged)
					}
				case "raw_exec":
					var config rawexec.TaskConfig
					if err := decodeConfig(t, taskDriver(t, "raw_exec"), task.Config, &config); err != nil {
						t.Errorf("%s: %v", task.Name, err)
					} else if config.Command == "" {
						t.Errorf("%s: no command", task.Name)
					}
				case driverName:
					h := newHost(t)
					if _, diagnostics, faults := hclutils.ParseHclInterface(task.Config, h.spec(), taskVariables); diagnostics.HasErrors() {
						t.Errorf("%s: %v", task.Name, faults)
					}
				default:
					t.Errorf("%s: driver %q", task.Name, task.Driver)
				}
			}
		}
	}
	for _, name := range layoutFiles(t) {
		t.Run(name, func(t *testing.T) { check(t, mustParseLayout(t, name)) })
	}
	for name, variables := range runtimes {
		t.Run(name+" without Docker", func(t *testing.T) { check(t, mustParseLayout(t, name, variables...)) })
	}
	if decoded["docker"] < 25 || decoded["raw_exec"] < 6 || decoded[driverName] != 1 {
		t.Errorf("decoded: %v", decoded)
	}
	config := map[string]any{"image": "a:1", "volume": []string{"/a:/b"}}
	err := decodeConfig(t, taskDriver(t, "docker"), config, new(docker.TaskConfig))
	if err == nil {
		t.Fatal("the docker driver's schema takes an unknown key")
	}
	mustSay(t, err.Error(), "volume")
}

func TestTheAgentsConfigurationsLoad(t *testing.T) {
	load := func(name string) *nomadagent.Config {
		config, err := nomadagent.ParseConfigFile(filepath.Join(layoutFolder, "agents", name))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(config.ExtraKeysHCL) != 0 {
			t.Errorf("%s: unknown keys %v", name, config.ExtraKeysHCL)
		}
		return config
	}
	linux := load("client-linux.hcl")
	if linux.PluginDir != "" {
		t.Errorf("plugin_dir = %s hides the drivers in the agent's own directory", linux.PluginDir)
	}
	if linux.Client.MaxKillTimeout != "5m" || linux.Client.Meta["stateful"] != "true" {
		t.Errorf("%+v", linux.Client)
	}
	server := load("server.hcl")
	if server.Server.BootstrapExpect != 3 || !server.ACL.Enabled || !server.TLSConfig.EnableRPC {
		t.Errorf("%+v", server.Server)
	}
	if mac := load("client-macos.hcl"); mac.Client.NodeClass != "witness" || len(mac.Client.Servers) != 3 {
		t.Errorf("%+v", mac.Client)
	}
	for _, plugin := range linux.Plugins {
		if plugin.Name != "docker" {
			continue
		}
		var config docker.DriverConfig
		schema, err := taskDriver(t, "docker").ConfigSchema()
		if err != nil {
			t.Fatal(err)
		}
		spec, diagnostics := hclspecutils.Convert(schema)
		if diagnostics.HasErrors() {
			t.Fatal(diagnostics)
		}
		value, diagnostics, faults := hclutils.ParseHclInterface(plugin.Config, spec, nil)
		if diagnostics.HasErrors() {
			t.Fatal(faults)
		}
		task := new(drivers.TaskConfig)
		if err := task.EncodeDriverConfig(value); err != nil {
			t.Fatal(err)
		}
		if err := task.DecodeDriverConfig(&config); err != nil {
			t.Fatal(err)
		}
		if !config.Volumes.Enabled || !slices.Contains(config.AllowCaps, "net_admin") {
			t.Errorf("%+v", config)
		}
		return
	}
	t.Error("client-linux.hcl has no block for docker")
}

func TestThePolicyReadsTheSharedVariablesOnly(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(layoutFolder, "policies", "gvfx-variables.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	policy, err := acl.Parse(string(text), acl.PolicyParseStrict)
	if err != nil {
		t.Fatal(err)
	}
	rights, err := acl.NewACL(false, []*acl.Policy{policy})
	if err != nil {
		t.Fatal(err)
	}
	for path, allowed := range map[string]bool{
		"nomad/jobs/gvfx/config": true, "nomad/jobs/gvfx/secrets": true,
		"nomad/jobs/timescaledb-ha": false, "nomad/jobs/gvfx": false, "nomad/jobs/pg-leader-proxy": false,
	} {
		if got := rights.AllowVariableOperation("default", path, acl.VariablesCapabilityRead, nil); got != allowed {
			t.Errorf("%s may be read: %v", path, got)
		}
		if rights.AllowVariableOperation("default", path, acl.VariablesCapabilityWrite, nil) {
			t.Errorf("%s may be written", path)
		}
	}
}

func TestEachHCLFileIsFormatted(t *testing.T) {
	looked := 0
	err := filepath.WalkDir(layoutFolder, func(file string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(file, ".hcl") {
			return err
		}
		looked++
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if !bytes.Equal(text, hclwrite.Format(text)) {
			t.Errorf("%s: run `nomad fmt` on it", file)
		}
		return nil
	})
	if err != nil || looked < 30 {
		t.Errorf("%d files, %v", looked, err)
	}
}
