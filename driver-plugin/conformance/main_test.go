// TestMain: this executable is the tests or, under the name `nomad`, Nomad itself.

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

// nomadFile is the name under which this executable is Nomad's command line, agent included. Nomad starts its own
// executable again to collect logs and to render templates, unless the name is that of a Go test. Package
// initialisation installs the handlers for that, before TestMain.
const nomadFile = "nomad"

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == nomadFile {
		os.Exit(nomad(os.Args[1:]))
	}
	run, err := newRunDirectory()
	if err != nil {
		fmt.Fprintf(os.Stderr, "conformance: %v\n", err)
		os.Exit(1)
	}
	here = run
	code := m.Run()
	if err := run.remove(); err != nil {
		fmt.Fprintf(os.Stderr, "conformance: cleaning up: %v\n", err)
		code = 1
	}
	os.Exit(code)
}

// nomad does what Nomad's main function does.
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
