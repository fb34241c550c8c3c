// The start of this executable: it is the tests, or, under the name `nomad`, Nomad itself.

package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/cli"
	"github.com/hashicorp/nomad/command"
	"github.com/hashicorp/nomad/version"
)

// nomadFile makes this executable Nomad's command line, agent included, when it is called so. It has to be by name: Nomad
// starts its own executable again to collect logs and to render templates (handlers for that are installed by package
// initialisation, before TestMain), and does not do so with one that is named as a Go test.
const nomadFile = "nomad"

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == nomadFile {
		os.Exit(nomad(os.Args[1:]))
	}
	place, err := makePlace()
	if err != nil {
		fmt.Fprintf(os.Stderr, "conformance: %v\n", err)
		os.Exit(1)
	}
	here = place
	code := m.Run()
	if err := place.sweep(); err != nil {
		fmt.Fprintf(os.Stderr, "conformance: cleaning up: %v\n", err)
		code = 1
	}
	os.Exit(code)
}

// nomad is what Nomad's own main function does.
func nomad(arguments []string) int {
	meta := new(command.Meta)
	meta.SetupUi(arguments)
	agentUI := &cli.BasicUi{Reader: os.Stdin, Writer: os.Stdout, ErrorWriter: os.Stderr}
	program := &cli.CLI{
		Name:       "nomad",
		Version:    version.GetVersion().FullVersionNumber(true),
		Args:       arguments,
		Commands:   command.Commands(meta, agentUI),
		HelpFunc:   cli.BasicHelpFunc("nomad"),
		HelpWriter: os.Stdout,
	}
	code, err := program.Run()
	if err != nil {
		fmt.Fprintf(os.Stderr, "nomad: %v\n", err)
		return 1
	}
	return code
}
