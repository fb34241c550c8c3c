// The HCL that the documentation shows, read by those who read it from an operator: Nomad's parsers and the driver's schema.

package conformance

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	nomadagent "github.com/hashicorp/nomad/command/agent"
	"github.com/hashicorp/nomad/helper/pluginutils/hclutils"
	"github.com/hashicorp/nomad/jobspec2"
	"github.com/hashicorp/nomad/plugins/drivers"
)

// hclBlock is a code block of a page. A comment before it says what it is a fragment of; without one it is a job.
type hclBlock struct {
	place, fragment, text string
}

// documentedBlocks are the HCL blocks of the book and of the README.
func documentedBlocks(t testing.TB) []hclBlock {
	t.Helper()
	pages := []string{filepath.Join(repository, "README.md")}
	err := filepath.WalkDir(filepath.Join(repository, "docs/src"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			pages = append(pages, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var blocks []hclBlock
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, hclBlocks(page, string(text))...)
	}
	return blocks
}

func hclBlocks(page, text string) []hclBlock {
	var blocks []hclBlock
	var fragment string
	var open *hclBlock
	for number, line := range strings.Split(text, "\n") {
		switch comment, isFragment := strings.CutPrefix(line, "<!-- fragment: "); {
		case open != nil && line == "```":
			blocks = append(blocks, *open)
			open, fragment = nil, ""
		case open != nil:
			open.text += line + "\n"
		case line == "```hcl":
			open = &hclBlock{place: fmt.Sprintf("%s:%d", page, number+1), fragment: fragment}
		case isFragment:
			fragment = strings.TrimSuffix(comment, " -->")
		case line != "":
			fragment = ""
		}
	}
	return blocks
}

func TestTheDocumentationsHclIsTaken(t *testing.T) {
	h := newHost(t)
	seen := map[string]int{}
	for _, block := range documentedBlocks(t) {
		seen[block.fragment]++
		t.Run(block.place, func(t *testing.T) {
			inner := *h
			inner.t = t
			if err := inner.take(block); err != nil {
				t.Errorf("%v\n%s", err, block.text)
			}
		})
	}
	for _, kind := range []string{"", "config", "agent"} {
		if seen[kind] == 0 {
			t.Errorf("the documentation has no HCL of the kind %q: %v", kind, seen)
		}
	}
}

func (h *host) take(block hclBlock) error {
	switch block.fragment {
	case "":
		return h.takeJob(block.text)
	case "config":
		return h.encode(new(drivers.TaskConfig), block.text)
	case "agent":
		return takeAgent(h.t.TempDir(), block.text)
	}
	return fmt.Errorf("nobody knows what a fragment of %q is", block.fragment)
}

// takeJob wants a job whose tasks of this driver have a config that the driver takes.
func (h *host) takeJob(text string) error {
	job, err := jobspec2.ParseWithConfig(&jobspec2.ParseConfig{Path: "docs.nomad.hcl", Body: []byte(text), Strict: true})
	if err != nil {
		return err
	}
	for _, group := range job.TaskGroups {
		for _, task := range group.Tasks {
			if task.Driver != driverName {
				return fmt.Errorf("the task %s is one of %q", task.Name, task.Driver)
			}
			_, diagnostics, faults := hclutils.ParseHclInterface(task.Config, h.spec(), taskVariables)
			if diagnostics.HasErrors() {
				return fmt.Errorf("%v", faults)
			}
		}
	}
	return nil
}

// takeAgent wants a plugin block under the name of the driver's file, and nothing that Nomad does not know.
func takeAgent(directory, text string) error {
	file := filepath.Join(directory, "agent.hcl")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	config, err := nomadagent.ParseConfigFile(file)
	if err != nil {
		return err
	}
	if len(config.ExtraKeysHCL) > 0 {
		return fmt.Errorf("Nomad does not know %v", config.ExtraKeysHCL)
	}
	for _, plugin := range config.Plugins {
		if plugin.Name == driverFile {
			return nil
		}
	}
	return fmt.Errorf("no plugin block for %s", driverFile)
}
