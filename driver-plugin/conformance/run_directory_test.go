// The directory of one run of the tests, and the guardian that cleans up however the run ends.

package conformance

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	// runMark is a variable in the environment of this run's agents and of the processes that inherit it.
	runMark = "PGLP_CONFORMANCE_RUN"
	// keepVariable keeps the directory, with the agents' logs.
	keepVariable = "PGLP_CONFORMANCE_KEEP"
	// maxPath bounds the directory's path: the paths of unix sockets in it must fit into the 108 bytes of sun_path.
	maxPath = 40
)

//go:embed guardian.sh
var guardianScript string

// here is the directory of this run. TestMain sets it.
var here *runDirectory

type runDirectory struct {
	directory string
	driver    string
	nomad     string
	guardian  *exec.Cmd
	// guardianInput ends when this process does, which tells the guardian to clean up.
	guardianInput io.WriteCloser
}

// newRunDirectory creates the directory with a copy of the driver and of this executable as Nomad. With a copy, a
// build during the tests changes nothing, and the processes of the driver are known by their executable.
func newRunDirectory() (*runDirectory, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("these tests need root: the agent creates cgroups and mounts")
	}
	built, err := builtDriver()
	if err != nil {
		return nil, err
	}
	directory, err := os.MkdirTemp("", "pglp-")
	if err == nil && len(directory) > maxPath {
		_ = os.Remove(directory)
		directory, err = os.MkdirTemp("/tmp", "pglp-")
	}
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(directory, 0o755); err != nil {
		return nil, err
	}
	r := &runDirectory{
		directory: directory,
		driver:    filepath.Join(directory, driverFile),
		nomad:     filepath.Join(directory, "bin", nomadFile),
	}
	if err := r.startGuardian(); err != nil {
		return nil, err
	}
	return r, r.fill(built)
}

func (r *runDirectory) fill(driver string) error {
	itself, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Dir(r.nomad), 0o755); err != nil {
		return err
	}
	if err := copyExecutable(itself, r.nomad); err != nil {
		return err
	}
	return copyExecutable(driver, r.driver)
}

// startGuardian starts a shell that waits for the end of a pipe. Only this process holds the writing end, which the
// kernel closes even after a panic, a timeout of `go test` or SIGKILL.
func (r *runDirectory) startGuardian() error {
	keep := "remove"
	if os.Getenv(keepVariable) != "" {
		keep = "keep"
	}
	r.guardian = exec.Command("/bin/sh", "-c", guardianScript, "guardian", r.directory, runMark, keep)
	r.guardian.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r.guardian.Dir = "/"
	input, err := r.guardian.StdinPipe()
	if err != nil {
		return err
	}
	r.guardianInput = input
	return r.guardian.Start()
}

// watch makes the guardian end this process too.
func (r *runDirectory) watch(pid int) error {
	_, err := fmt.Fprintf(r.guardianInput, "watch %d\n", pid)
	return err
}

// forget is for a process that has exited: its pid may be reused.
func (r *runDirectory) forget(pid int) error {
	_, err := fmt.Fprintf(r.guardianInput, "forget %d\n", pid)
	return err
}

// remove ends what is left and removes the directory.
func (r *runDirectory) remove() error {
	if err := r.guardianInput.Close(); err != nil {
		return err
	}
	return r.guardian.Wait()
}

// environment is this process's own with the run's mark, and without variables that change an agent or a cloud
// fingerprint.
func (r *runDirectory) environment(more ...string) []string {
	kept := []string{runMark + "=" + r.directory, "TMPDIR=" + r.directory}
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		switch {
		case name == "TMPDIR", strings.HasPrefix(name, "AWS_"), strings.HasPrefix(name, "NOMAD_"),
			strings.HasPrefix(name, "CONSUL_"), strings.HasPrefix(name, "VAULT_"), strings.HasPrefix(name, "PGLP_"):
		default:
			kept = append(kept, variable)
		}
	}
	return append(kept, more...)
}

func copyExecutable(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, source); err != nil {
		_ = target.Close()
		return err
	}
	return target.Close()
}
