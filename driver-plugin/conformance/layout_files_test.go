// The job files of the layout, read as an operator's `nomad job run` reads them.

package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/nomad/api"
	"github.com/hashicorp/nomad/jobspec2"
)

const (
	layoutFolder = repository + "/nomad"
	// siteVariables has the addresses of the layout, operatorVariables what it leaves to the operators, made up.
	siteVariables     = layoutFolder + "/site.vars.hcl"
	operatorVariables = layoutFolder + "/tests/operators.vars.hcl"
)

// ofEachRun are the variables that belong to a run and to no file.
var ofEachRun = map[string]string{"gvfx/gvfx-worker-egress-check": "run_id=1"}

// layoutFiles are the names of all job files, such as "database/etcd".
func layoutFiles(t testing.TB) []string {
	t.Helper()
	var names []string
	for _, pattern := range []string{"*.nomad.hcl", "*/*.nomad.hcl"} {
		found, err := filepath.Glob(filepath.Join(layoutFolder, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range found {
			name, err := filepath.Rel(layoutFolder, strings.TrimSuffix(file, ".nomad.hcl"))
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, name)
		}
	}
	if len(names) < 17 {
		t.Fatalf("only %d job files in %s: %v", len(names), layoutFolder, names)
	}
	return names
}

// parseLayout does what `nomad job run -hcl2-strict=false -var-file … -var NAME=VALUE FILE` does before it asks a server.
func parseLayout(name string, variables ...string) (*api.Job, error) {
	file := filepath.Join(layoutFolder, name+".nomad.hcl")
	body, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if own := ofEachRun[name]; own != "" {
		variables = append(variables, own)
	}
	return jobspec2.ParseWithConfig(&jobspec2.ParseConfig{
		Path: file, Body: body, AllowFS: true, Strict: false,
		VarFiles: []string{siteVariables, operatorVariables}, ArgVars: variables,
	})
}

func mustParseLayout(t testing.TB, name string, variables ...string) *api.Job {
	t.Helper()
	job, err := parseLayout(name, variables...)
	if err != nil {
		t.Fatalf("%s: %v", name, withoutUndeclared(err))
	}
	return job
}

// withoutUndeclared leaves out what one var-file for many jobs brings with it: a warning for each name of another job.
func withoutUndeclared(err error) string {
	var kept []string
	for line := range strings.Lines(err.Error()) {
		if !strings.Contains(line, "Undefined variable") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

func TestEachJobFileParses(t *testing.T) {
	for _, name := range layoutFiles(t) {
		t.Run(name, func(t *testing.T) {
			job := mustParseLayout(t, name)
			if want := filepath.Base(name); *job.ID != want {
				t.Errorf("the job is called %s", *job.ID)
			}
		})
	}
}

// No address, node, image, scope or domain has a default, so that nobody deploys another layout's by leaving it out.
func TestWithoutTheVariablesNomadAsks(t *testing.T) {
	for name, asked := range map[string][]string{
		"pg-leader-proxy":            {"scope", "etcd_endpoints"},
		"database/etcd":              {"etcd_members", "etcd_token", "etcd_state", "service_provider"},
		"database/timescaledb-ha":    {"scope", "db_image", "db_nodes", "db_bin_dir", "db_client_networks"},
		"rollback/pg-haproxy":        {"db_nodes", "haproxy_image", "write_port"},
		"gvfx/gvfx-convex":           {"gvfx_node", "gvfx_convex_image", "gvfx_store_url", "gvfx_convex_origin"},
		"gvfx/gvfx-worker":           {"gvfx_backend_image", "gvfx_worker_command"},
		"vietmarket/vietmarket-news": {"news_image", "news_command"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(layoutFolder, name+".nomad.hcl")
			body, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = jobspec2.ParseWithConfig(&jobspec2.ParseConfig{Path: file, Body: body, AllowFS: true, Strict: true})
			if err == nil {
				t.Fatal("parsed without a value for any variable")
			}
			for _, variable := range asked {
				mustSay(t, err.Error(), fmt.Sprintf("Unset variable %q", variable))
			}
		})
	}
}

const immutable = "must carry an immutable tag or a digest."

// imageVariables are the images of each job file, taken from what it declares.
func imageVariables(t testing.TB, name string) []string {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(layoutFolder, name+".nomad.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(body)) {
		if variable, is := strings.CutPrefix(line, `variable "`); is {
			variable, _, _ = strings.Cut(variable, `"`)
			if strings.HasSuffix(variable, "_image") {
				found = append(found, variable)
			}
		}
	}
	return found
}

func TestAMovingImageIsRefused(t *testing.T) {
	checked := 0
	for _, name := range layoutFiles(t) {
		for _, variable := range imageVariables(t, name) {
			checked++
			for _, image := range []string{
				"", "example.org/image", "example.org:5000/image", "example.org/image:latest", "example.org/image:stable",
				"example.org/image:main", "example.org/image@sha256:0123", "example.org/image:",
			} {
				_, err := parseLayout(name, variable+"="+image)
				if err == nil {
					t.Errorf("%s takes %s = %q", name, variable, image)
					continue
				}
				mustSay(t, err.Error(), immutable)
			}
			digest := "example.org:5000/image@sha256:" + strings.Repeat("0a", 32)
			for _, image := range []string{digest, "example.org:5000/image:v1.2.3", "image:latest-v1"} {
				if _, err := parseLayout(name, variable+"="+image); err != nil {
					t.Errorf("%s refuses %s = %q: %s", name, variable, image, withoutUndeclared(err))
				}
			}
		}
	}
	if checked < 20 {
		t.Errorf("only %d images were looked at", checked)
	}
}

// member is one element of etcd_members as HCL; a change is a KEY=VALUE, with the value as HCL.
func member(number int, changes ...string) string {
	values := map[string]string{
		"name": fmt.Sprintf(`"m%d"`, number), "node": fmt.Sprintf(`"n%d"`, number),
		"address": fmt.Sprintf(`"10.0.0.%d"`, number), "runtime": `"docker"`, "image": `"example.org/etcd:v3.5.24"`,
		"command": `"/usr/local/bin/etcd"`, "data_dir": `"/opt/etcd"`, "user": `""`,
	}
	for _, change := range changes {
		key, value, _ := strings.Cut(change, "=")
		values[key] = value
	}
	var fields []string
	for key, value := range values {
		fields = append(fields, key+" = "+value)
	}
	return "{ " + strings.Join(fields, ", ") + " }"
}

func members(elements ...string) string { return "etcd_members=[" + strings.Join(elements, ", ") + "]" }

func TestABadClusterIsRefused(t *testing.T) {
	if _, err := parseLayout("database/etcd", members(member(1), member(2), member(3))); err != nil {
		t.Fatalf("three good members: %s", withoutUndeclared(err))
	}
	for _, fault := range []struct {
		name, job, variable, said string
	}{
		{"two members", "database/etcd", members(member(1), member(2)), "needs 3 members or more"},
		{"four members", "database/etcd", members(member(1), member(2), member(3), member(4)), "needs an odd number of members"},
		{"one name twice", "database/etcd", members(member(1), member(2), member(3, `name="m1"`)), "have the same name"},
		{"one address twice", "database/etcd", members(member(1), member(2), member(3, `address="10.0.0.1"`)), "have the same address"},
		{"one node twice", "database/etcd", members(member(1), member(2), member(3, `node="n2"`)), "are on the same node"},
		{"unknown runtime", "database/etcd", members(member(1), member(2), member(3, `runtime="podman"`)), "neither docker nor raw_exec"},
		{"moving image", "database/etcd", members(member(1), member(2), member(3, `image="example.org/etcd:latest"`)), immutable},
		{"no image", "database/etcd", members(member(1), member(2), member(3, `image=""`)), immutable},
		{"no directory", "database/etcd", members(member(1), member(2), member(3, `data_dir=""`)), "has no name, address, command or data_dir"},
		{"unknown state", "database/etcd", "etcd_state=newish", "neither new nor existing"},
		{"no endpoint", "database/timescaledb-ha", "etcd_endpoints=[]", "etcd_endpoints is empty"},
		{"endpoint without a port", "database/timescaledb-ha", `etcd_endpoints=["http://10.0.0.1"]`, "not of the form http://ADDRESS:PORT"},
		{"one database node", "database/timescaledb-ha", `db_nodes=[{ node = "a", address = "10.0.0.1" }]`, "names two nodes"},
		{"one database address twice", "database/timescaledb-ha",
			`db_nodes=[{ node = "a", address = "10.0.0.1" }, { node = "b", address = "10.0.0.1" }]`, "have the same address"},
		{"unknown database runtime", "database/timescaledb-ha", "db_runtime=exec", "neither docker nor raw_exec"},
		{"empty scope", "pg-leader-proxy", "scope=", "scope is empty"},
		{"no endpoint for the proxy", "pg-leader-proxy", "etcd_endpoints=[]", "etcd_endpoints is empty"},
		{"unknown check", "rollback/pg-haproxy", "haproxy_check=sql", "neither rest nor tcp"},
		{"unknown guard", "gvfx/gvfx-worker", "guard_from=elsewhere", "neither job nor image"},
	} {
		t.Run(fault.name, func(t *testing.T) {
			_, err := parseLayout(fault.job, fault.variable)
			if err == nil {
				t.Fatalf("%s takes %s", fault.job, fault.variable)
			}
			mustSay(t, err.Error(), fault.said)
		})
	}
}

// Both var-files hold names of jobs only, each once: a name that no job declares is a typo that nobody would see.
func TestEachVariableBelongsToAJob(t *testing.T) {
	declared := map[string]bool{"node_meta": true} // nomad-layout's own
	for _, name := range layoutFiles(t) {
		body, err := os.ReadFile(filepath.Join(layoutFolder, name+".nomad.hcl"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(body)) {
			if variable, is := strings.CutPrefix(line, `variable "`); is {
				variable, _, _ = strings.Cut(variable, `"`)
				declared[variable] = true
			}
		}
	}
	site, err := os.ReadFile(siteVariables)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{siteVariables, operatorVariables} {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		set := 0
		for line := range strings.Lines(string(body)) {
			variable, _, assigned := strings.Cut(line, "=")
			variable = strings.TrimSpace(variable)
			if !assigned || line[0] == ' ' || line[0] == '#' {
				continue
			}
			set++
			if !declared[variable] {
				t.Errorf("%s sets %s, which no job declares", file, variable)
			}
			if !strings.Contains(string(site), "\n"+variable+" ") && !strings.Contains(string(site), "\n# "+variable+" ") {
				t.Errorf("%s does not tell operators of %s", siteVariables, variable)
			}
		}
		if set < 10 {
			t.Errorf("%s sets %d variables", file, set)
		}
	}
}
