// The job files of the layout, planned by Nomad's own server and scheduler over nodes as the layout has them.

package conformance

import (
	"fmt"
	"maps"
	"testing"
	"time"

	nomadagent "github.com/hashicorp/nomad/command/agent"
	nomadserver "github.com/hashicorp/nomad/nomad"
	"github.com/hashicorp/nomad/nomad/mock"
	"github.com/hashicorp/nomad/nomad/structs"
)

// machine is a Nomad node of the layout, as its client would register it.
type machine struct {
	name, address, kernel, class string
	drivers                      []string
	meta                         map[string]string
	withoutBridge                bool
}

// theLayout are the three clients of the deployment. The fourth machine, Vultr, is a server only.
func theLayout() []machine {
	linux := []string{"docker", driverName}
	return []machine{
		{name: "optiplex", address: "100.83.150.39", kernel: "linux", drivers: linux,
			meta: map[string]string{"stateful": "true", "egress_worker": "true", "role": "primary"}},
		{name: "epyc", address: "100.103.201.10", kernel: "linux", drivers: linux,
			meta: map[string]string{"stateful": "true", "egress_worker": "true", "role": "standby", "gpu": "true", "rl_tier": "primary"}},
		{name: "macmini", address: "100.100.5.40", kernel: "darwin", class: "witness", drivers: []string{"raw_exec"},
			meta: map[string]string{"role": "witness", "rl_tier": "secondary"}},
	}
}

func (m machine) node(t testing.TB) *structs.Node {
	t.Helper()
	node := mock.Node()
	node.Name, node.NodeClass, node.Meta = m.name, m.class, m.meta
	node.Attributes = map[string]string{
		"kernel.name": m.kernel, "unique.hostname": m.name, "consul.version": "1.21.5", "nomad.version": "1.11.3",
		"os.signals": "SIGHUP,SIGINT,SIGKILL,SIGQUIT,SIGTERM",
	}
	node.Drivers = map[string]*structs.DriverInfo{}
	for _, driver := range m.drivers {
		node.Attributes["driver."+driver] = "1"
		node.Drivers[driver] = &structs.DriverInfo{Detected: true, Healthy: true}
	}
	node.NodeResources.Memory.MemoryMB = 64 << 10
	node.NodeResources.Networks[0].CIDR, node.NodeResources.Networks[0].IP = m.address+"/32", m.address
	node.NodeResources.NodeNetworks[0].Addresses[0].Address = m.address
	if !m.withoutBridge {
		for _, plugin := range []string{"bridge", "firewall", "host-local", "loopback", "portmap"} {
			node.Attributes["plugins.cni.version."+plugin] = "v1.6.2"
		}
		node.NodeResources.Networks = append(node.NodeResources.Networks, &structs.NetworkResource{Mode: "bridge"})
		node.NodeResources.NodeNetworks = append(node.NodeResources.NodeNetworks, &structs.NodeNetworkResource{Mode: "bridge"})
	}
	if err := node.ComputeClass(); err != nil {
		t.Fatal(err)
	}
	return node
}

// planner is a server of Nomad without clients: what it plans is placed nowhere.
type planner struct {
	t      testing.TB
	server *nomadserver.Server
}

func newPlanner(t testing.TB, machines []machine) *planner {
	t.Helper()
	server, stop := nomadserver.TestServer(t, func(config *nomadserver.Config) { config.NumSchedulers = 0 })
	t.Cleanup(stop)
	eventually(t, patience, "the server leads", func() error {
		if !server.IsLeader() {
			return fmt.Errorf("no leader")
		}
		return nil
	})
	for i, m := range machines {
		if err := server.State().UpsertNode(structs.MsgTypeTestSetup, uint64(1000+i), m.node(t)); err != nil {
			t.Fatal(err)
		}
	}
	return &planner{t: t, server: server}
}

func (p *planner) plan(name string, variables ...string) (*structs.JobPlanResponse, error) {
	p.t.Helper()
	job := nomadagent.ApiJobToStructJob(mustParseLayout(p.t, name, variables...))
	request := &structs.JobPlanRequest{Job: job, Diff: true, WriteRequest: structs.WriteRequest{Region: "global", Namespace: job.Namespace}}
	var answer structs.JobPlanResponse
	err := p.server.RPC("Job.Plan", request, &answer)
	return &answer, err
}

// placed is how many allocations of each group the plan places: what it wants, less what finds no node.
func placed(answer *structs.JobPlanResponse) map[string]uint64 {
	counts := map[string]uint64{}
	for group, updates := range answer.Annotations.DesiredTGUpdates {
		counts[group] = updates.Place + updates.Canary
		if failed := answer.FailedTGAllocs[group]; failed != nil {
			counts[group] -= uint64(failed.CoalescedFailures) + 1
		}
	}
	return counts
}

// wanted are the allocations of each job on the layout's nodes. A GPU and the mark of the RL service are on one Linux node.
var wanted = map[string]map[string]uint64{
	"database/etcd":                          {"optiplex": 1, "epyc": 1, "macmini": 1},
	"database/timescaledb-ha":                {"database": 2},
	"pg-leader-proxy":                        {"proxy": 2},
	"rollback/pg-haproxy":                    {"proxy": 2},
	"vietmarket/vietmarket-candles-latest":   {"ingest": 1},
	"vietmarket/vietmarket-candles-backfill": {"ingest": 1},
	"vietmarket/vietmarket-news":             {"ingest": 1},
	"gvfx/gvfx-postgres":                     {"postgres": 1},
	"gvfx/gvfx-objectstore":                  {"objectstore": 1},
	"gvfx/gvfx-convex":                       {"convex": 1},
	"gvfx/gvfx-backup":                       {"backup": 1},
	"gvfx/gvfx-api":                          {"api": 2},
	"gvfx/gvfx-frontend":                     {"frontend": 2},
	"gvfx/gvfx-rl-service":                   {"rl": 1},
	"gvfx/gvfx-worker":                       {"worker": 1},
	"gvfx/gvfx-worker-egress-check":          {"check": 1},
	"gvfx/gvfx-bingx-full-backfill":          {"backfill": 1},
}

func TestEachJobIsPlacedOnTheLayout(t *testing.T) {
	p := newPlanner(t, theLayout())
	for _, name := range layoutFiles(t) {
		t.Run(name, func(t *testing.T) {
			var variables []string
			if name == "gvfx/gvfx-rl-service" {
				variables = []string{"rl_count=1"}
			}
			answer, err := p.plan(name, variables...)
			if err != nil {
				t.Fatal(err)
			}
			if answer.Warnings != "" {
				t.Errorf("warnings: %s", answer.Warnings)
			}
			for group, metric := range answer.FailedTGAllocs {
				t.Errorf("%s is not placed: filtered %v, exhausted %v", group, metric.ConstraintFiltered, metric.DimensionExhausted)
			}
			if got := placed(answer); !maps.Equal(got, wanted[name]) {
				t.Errorf("placed %v, not %v", got, wanted[name])
			}
			if *mustParseLayout(t, name).Type == "batch" && name != "gvfx/gvfx-worker-egress-check" {
				if until := time.Until(answer.NextPeriodicLaunch); until <= 0 || until > 25*time.Hour {
					t.Errorf("the next run is %v from now", until)
				}
			}
		})
	}
}

// What keeps a job off a node, one node changed at a time: the plan says which constraint it was. Of a second member it says only
// that the first one's node is taken.
func TestAMissingMarkIsNamed(t *testing.T) {
	without := func(node, mark string) []machine {
		machines := theLayout()
		for i := range machines {
			if machines[i].name == node {
				delete(machines[i].meta, mark)
			}
		}
		return machines
	}
	change := func(node string, change func(*machine)) []machine {
		machines := theLayout()
		for i := range machines {
			if machines[i].name == node {
				change(&machines[i])
			}
		}
		return machines
	}
	for _, fault := range []struct {
		name, job, group, constraint string
		machines                     []machine
		left                         uint64
	}{
		{"one stateful node", "database/timescaledb-ha", "database", "distinct_hosts", without("epyc", "stateful"), 1},
		{"no such etcd node", "database/etcd", "macmini", "${node.unique.name} = macmini",
			change("macmini", func(m *machine) { m.name = "mac" }), 0},
		{"the data's node is gone", "gvfx/gvfx-postgres", "postgres", "${node.unique.name} = optiplex", theLayout()[1:], 0},
		{"the witness may not work", "gvfx/gvfx-worker", "worker", "${meta.role} != witness",
			[]machine{{name: "w", address: "10.0.0.1", kernel: "linux", drivers: []string{"docker"},
				meta: map[string]string{"egress_worker": "true", "role": "witness"}}}, 0},
		{"nor one by its class", "gvfx/gvfx-api", "api", "${node.class} != witness",
			[]machine{{name: "w", address: "10.0.0.1", kernel: "linux", class: "witness", drivers: []string{"docker"}}}, 0},
		{"no mark for the worker", "gvfx/gvfx-worker", "worker", "${meta.egress_worker} = true", []machine{
			{name: "a", address: "10.0.0.1", kernel: "linux", drivers: []string{"docker"}}}, 0},
		{"no CNI for the worker", "gvfx/gvfx-worker", "worker", "${attr.plugins.cni.version.bridge} semver >= 0.4.0", []machine{
			{name: "a", address: "10.0.0.1", kernel: "linux", drivers: []string{"docker"},
				meta: map[string]string{"egress_worker": "true"}, withoutBridge: true}}, 0},
		{"no Docker", "database/timescaledb-ha", "database", "distinct_hosts",
			change("epyc", func(m *machine) { m.drivers = []string{driverName} }), 1},
		{"one GPU for two", "gvfx/gvfx-rl-service", "rl", "distinct_hosts", theLayout(), 1},
	} {
		t.Run(fault.name, func(t *testing.T) {
			p := newPlanner(t, fault.machines)
			p.t = t
			answer, err := p.plan(fault.job)
			if err != nil {
				t.Fatal(err)
			}
			metric := answer.FailedTGAllocs[fault.group]
			if metric == nil {
				t.Fatalf("everything was placed: %v", placed(answer))
			}
			if metric.ConstraintFiltered[fault.constraint] == 0 {
				t.Errorf("the plan names %v", metric.ConstraintFiltered)
			}
			if got := placed(answer)[fault.group]; got != fault.left {
				t.Errorf("%d placed, not %d", got, fault.left)
			}
		})
	}
}

// A system job leaves out a node without a mark, a driver or the wanted name, and says nothing: the gate counts to two.
func TestTheProxyIsPlacedNodeByNode(t *testing.T) {
	machines := theLayout()
	p := newPlanner(t, machines)
	answer, err := p.plan("pg-leader-proxy", "nodes=^optiplex$")
	if err != nil {
		t.Fatal(err)
	}
	if got := placed(answer)["proxy"]; got != 1 {
		t.Errorf("%d placed by nodes=^optiplex$", got)
	}
	machines[1].drivers = []string{"docker"}
	if answer, err = newPlanner(t, machines).plan("pg-leader-proxy"); err != nil {
		t.Fatal(err)
	}
	if got := placed(answer)["proxy"]; got != 1 {
		t.Errorf("%d placed with one driver", got)
	}
}

// register puts the job into the server's state, as `nomad job run` does.
func (p *planner) register(name string, variables ...string) {
	p.t.Helper()
	job := nomadagent.ApiJobToStructJob(mustParseLayout(p.t, name, variables...))
	request := &structs.JobRegisterRequest{Job: job, WriteRequest: structs.WriteRequest{Region: "global", Namespace: job.Namespace}}
	if err := p.server.RPC("Job.Register", request, new(structs.JobRegisterResponse)); err != nil {
		p.t.Fatal(err)
	}
}

func TestASecondWorkerIsRejected(t *testing.T) {
	p := newPlanner(t, theLayout())
	p.register("gvfx/gvfx-worker")
	two := int64(2)
	err := p.server.RPC("Job.Scale", &structs.JobScaleRequest{
		JobID: "gvfx-worker", Count: &two, Target: map[string]string{structs.ScalingTargetGroup: "worker"},
		WriteRequest: structs.WriteRequest{Region: "global", Namespace: structs.DefaultNamespace},
	}, new(structs.JobRegisterResponse))
	if err == nil {
		t.Fatal("scaled to two")
	}
	mustSay(t, err.Error(), "greater than scaling policy maximum")
}

// A copy that Nomad starts beside the first one would be a second writer, or a database without data.
func TestWhatMustNotBeDoubledHasNoCanary(t *testing.T) {
	moving := map[string]bool{"gvfx-api": true, "gvfx-frontend": true, "gvfx-rl-service": true, "gvfx-worker": true}
	for _, name := range layoutFiles(t) {
		job := nomadagent.ApiJobToStructJob(mustParseLayout(t, name))
		if job.Type != structs.JobTypeService {
			continue
		}
		for _, group := range job.TaskGroups {
			if group.Update.Canary != 0 {
				t.Errorf("%s: %d canaries", name, group.Update.Canary)
			}
			if !group.Update.AutoRevert || group.Update.MaxParallel != 1 {
				t.Errorf("%s: auto_revert %v, max_parallel %d", name, group.Update.AutoRevert, group.Update.MaxParallel)
			}
			if moving[job.ID] {
				continue
			}
			if group.ReschedulePolicy.Unlimited || group.ReschedulePolicy.Attempts != 0 {
				t.Errorf("%s would start without its data on another node", name)
			}
			if group.Disconnect == nil || *group.Disconnect.Replace {
				t.Errorf("%s would be started again while its node is cut off", name)
			}
		}
	}
}
