// The Nomad variables that the layout's jobs read: rendered by Nomad's own template engine, one key after the other taken away.

package conformance

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ctemplate "github.com/hashicorp/consul-template/config"
	"github.com/hashicorp/consul-template/dependency"
	"github.com/hashicorp/consul-template/template"
	envparse "github.com/hashicorp/go-envparse"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/nomad/api"
	"github.com/zclconf/go-cty/cty"
)

// variableFile is an example of a Nomad variable, as `nomad var put @FILE` reads it.
func variableFile(t testing.TB, file string) (string, map[string]string) {
	t.Helper()
	body, diagnostics := hclparse.NewParser().ParseHCLFile(file)
	if diagnostics.HasErrors() {
		t.Fatal(diagnostics)
	}
	content, diagnostics := body.Body.Content(&hcl.BodySchema{
		Attributes: []hcl.AttributeSchema{{Name: "path", Required: true}},
		Blocks:     []hcl.BlockHeaderSchema{{Type: "items"}},
	})
	if diagnostics.HasErrors() || len(content.Blocks) != 1 {
		t.Fatalf("%s: %v, %d blocks", file, diagnostics, len(content.Blocks))
	}
	path, diagnostics := content.Attributes["path"].Expr.Value(nil)
	if diagnostics.HasErrors() {
		t.Fatal(diagnostics)
	}
	attributes, diagnostics := content.Blocks[0].Body.JustAttributes()
	if diagnostics.HasErrors() {
		t.Fatal(diagnostics)
	}
	items := map[string]string{}
	for key, attribute := range attributes {
		value, diagnostics := attribute.Expr.Value(nil)
		if diagnostics.HasErrors() || value.Type() != cty.String {
			t.Fatalf("%s: %s is no string: %v", file, key, diagnostics)
		}
		// Nomad masks all values in a template's error: an empty one between any two characters.
		if value.AsString() == "" {
			t.Errorf("%s: %s is empty", file, key)
		}
		items[key] = value.AsString()
	}
	return path.AsString(), items
}

func variableFiles(t testing.TB) map[string]map[string]string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(layoutFolder, "variables", "*.nv.hcl"))
	if err != nil || len(found) < 7 {
		t.Fatalf("%v, %v", found, err)
	}
	all := map[string]map[string]string{}
	for _, file := range found {
		path, items := variableFile(t, file)
		all[path] = items
	}
	return all
}

// render does with a template what Nomad's client does, with these variables in the place of a server.
func render(source *api.Template, variables map[string]map[string]string) (string, error) {
	strict := source.ErrMissingKey != nil && *source.ErrMissingKey
	parsed, err := template.NewTemplate(&template.NewTemplateInput{
		Contents: *source.EmbeddedTmpl, LeftDelim: *source.LeftDelim, RightDelim: *source.RightDelim, ErrMissingKey: strict,
	})
	if err != nil {
		return "", err
	}
	brain := template.NewBrain()
	defaults := ctemplate.DefaultConfig()
	defaults.Finalize()
	input := &template.ExecuteInput{Brain: brain, Env: []string{"NOMAD_TASK_DIR=/local"}, Config: defaults}
	result, err := parsed.Execute(input)
	if err != nil {
		return "", err
	}
	for _, missing := range result.Missing.List() {
		for path, items := range variables {
			if strings.Contains(missing.String(), "("+path+"@") {
				brain.Remember(missing, &dependency.NewNomadVariable(&api.Variable{Path: path, Items: items}).Items)
			}
		}
	}
	if result, err = parsed.Execute(input); err != nil {
		return "", err
	}
	if unmet := result.Missing.List(); len(unmet) != 0 {
		return "", fmt.Errorf("no such variable: %v", unmet)
	}
	return string(result.Output), nil
}

// secretTemplates are all templates of the layout that become a task's environment, by job, task and destination.
func secretTemplates(t testing.TB) map[string]*api.Template {
	t.Helper()
	all := map[string]*api.Template{}
	for _, name := range layoutFiles(t) {
		for _, group := range mustParseLayout(t, name).TaskGroups {
			for _, task := range group.Tasks {
				for _, source := range task.Templates {
					source.Canonicalize()
					if *source.Envvars {
						all[name+" "+task.Name+" "+*source.DestPath] = source
					} else if strings.Contains(*source.EmbeddedTmpl, "nomadVar") {
						t.Errorf("%s %s %s: a secret in a file", name, task.Name, *source.DestPath)
					}
				}
			}
		}
	}
	return all
}

// A script is a template only because Nomad has no other way to put a file into a task: what it holds must survive.
func TestEachScriptIsRenderedAsItIs(t *testing.T) {
	scripts := 0
	for _, name := range layoutFiles(t) {
		for _, group := range mustParseLayout(t, name).TaskGroups {
			for _, task := range group.Tasks {
				for _, source := range task.Templates {
					source.Canonicalize()
					if *source.LeftDelim == "{{" {
						continue
					}
					scripts++
					rendered, err := render(source, nil)
					if err != nil {
						t.Errorf("%s %s %s: %v", name, task.Name, *source.DestPath, err)
					} else if rendered != *source.EmbeddedTmpl {
						t.Errorf("%s %s %s is not rendered as it is", name, task.Name, *source.DestPath)
					}
				}
			}
		}
	}
	if scripts < 15 {
		t.Errorf("only %d scripts were found", scripts)
	}
}

func TestEachSecretComesFromAVariable(t *testing.T) {
	variables := variableFiles(t)
	// Characters that quoting has to survive on the way through the template and Nomad's reading of it.
	for _, items := range variables {
		for key, value := range items {
			items[key] = value + `"'\ $x #&<>=` + "`"
		}
	}
	templates := secretTemplates(t)
	if len(templates) < 20 {
		t.Fatalf("only %d templates", len(templates))
	}
	for name, source := range templates {
		t.Run(name, func(t *testing.T) {
			if !strings.HasPrefix(*source.DestPath, "${NOMAD_SECRETS_DIR}/") {
				t.Errorf("a secret is written to %s", *source.DestPath)
			}
			if source.ErrMissingKey == nil || !*source.ErrMissingKey {
				t.Error("error_on_missing_key is not set: a missing key would become a value")
			}
			text, err := render(source, variables)
			if err != nil {
				t.Fatal(err)
			}
			// What is built from parts is not quoted; the task `complete` of Convex checks the parts.
			lines := slices.DeleteFunc(strings.Split(text, "\n"), func(line string) bool {
				return strings.HasPrefix(line, "POSTGRES_URL=") || strings.HasPrefix(line, "BUCKETS=")
			})
			settings, err := envparse.Parse(strings.NewReader(strings.Join(lines, "\n")))
			if err != nil {
				t.Fatalf("%v in\n%s", err, text)
			}
			values := map[string]bool{}
			for _, items := range variables {
				for _, value := range items {
					values[value] = true
				}
			}
			for key, value := range settings {
				if !values[value] && !slices.Contains(constants, key+"="+value) {
					t.Errorf("%s=%q is the value of no key", key, value)
				}
			}
		})
	}
}

// constants are the settings in secret templates that come from no variable.
var constants = []string{
	"PATRONI_SUPERUSER_USERNAME=postgres", "PATRONI_REPLICATION_USERNAME=replicator", "PATRONI_REWIND_USERNAME=rewind",
	"PATRONI_RESTAPI_USERNAME=patroni", "BINGX_WS_ENABLED=true", "BINGX_WS_ENABLED=false", "BINGX_FULL_BACKFILL_ENABLED=true",
}

// Each key that a template reads is needed: without it the task does not start, instead of starting with an empty setting.
func TestAMissingKeyIsAnError(t *testing.T) {
	variables := variableFiles(t)
	used := map[string]bool{}
	for name, source := range secretTemplates(t) {
		for path, items := range variables {
			for key := range items {
				if !strings.Contains(*source.EmbeddedTmpl, "."+key+" ") || !strings.Contains(*source.EmbeddedTmpl, path) {
					continue
				}
				used[path+" "+key] = true
				without := maps.Clone(variables)
				without[path] = maps.Clone(items)
				delete(without[path], key)
				_, err := render(source, without)
				if err == nil {
					t.Errorf("%s renders without %s %s", name, path, key)
					continue
				}
				mustSay(t, err.Error(), key)
			}
		}
		without := map[string]map[string]string{}
		if _, err := render(source, without); err == nil {
			t.Errorf("%s renders without any variable", name)
		}
	}
	if len(used) < 45 {
		t.Errorf("only %d keys were taken away", len(used))
	}
	for path, items := range variables {
		for key := range items {
			if !used[path+" "+key] && key != "CONVEX_ADMIN_KEY" {
				t.Errorf("%s: no job reads %s", path, key)
			}
		}
	}
}

// The one writer: no other job may turn it on, whatever the shared settings say.
func TestOnlyTheWorkerWrites(t *testing.T) {
	variables := variableFiles(t)
	for _, value := range []string{"true", "false"} {
		variables["nomad/jobs/gvfx/config"]["BINGX_WS_ENABLED"] = value
		for name, source := range secretTemplates(t) {
			text, err := render(source, variables)
			if err != nil {
				t.Fatal(err)
			}
			settings, err := envparse.Parse(strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			if writes := settings["BINGX_WS_ENABLED"] == "true"; writes != strings.HasPrefix(name, "gvfx/gvfx-worker worker ") {
				t.Errorf("%s: BINGX_WS_ENABLED=%q with %s in the settings", name, settings["BINGX_WS_ENABLED"], value)
			}
		}
	}
}
