// Where one run of the tests keeps its files, and the guardian that removes everything however the run ends.

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
	// runMark is in the environment of every process that an agent of this run is, or starts without cleaning it.
	runMark = "PGLP_CONFORMANCE_RUN"
	// keepVariable leaves the run's directory for a look at its logs.
	keepVariable = "PGLP_CONFORMANCE_KEEP"
	// maxPlaceName bounds the directory's path: unix sockets below it must stay under the 108 bytes of sun_path.
	maxPlaceName = 40
)

//go:embed guardian.sh
var guardianScript string

// here is the place of this run; TestMain sets it before the first test.
var here *place

type place struct {
	directory string
	driver    string
	nomad     string
	guardian  *exec.Cmd
	leash     io.WriteCloser
}

// makePlace makes the directory with a copy of the driver in it, so that a build during the tests changes nothing, and
// so that a process of the driver is known by its executable; and with this executable as Nomad.
func makePlace() (*place, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("these tests need root: the agent makes cgroups and mounts")
	}
	built, err := builtDriver()
	if err != nil {
		return nil, err
	}
	directory, err := os.MkdirTemp("", "pglp-")
	if err == nil && len(directory) > maxPlaceName {
		_ = os.Remove(directory)
		directory, err = os.MkdirTemp("/tmp", "pglp-")
	}
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(directory, 0o755); err != nil {
		return nil, err
	}
	p := &place{
		directory: directory,
		driver:    filepath.Join(directory, driverFile),
		nomad:     filepath.Join(directory, "bin", nomadFile),
	}
	if err := p.startGuardian(); err != nil {
		return nil, err
	}
	return p, p.fill(built)
}

func (p *place) fill(driver string) error {
	itself, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Dir(p.nomad), 0o755); err != nil {
		return err
	}
	if err := copyExecutable(itself, p.nomad); err != nil {
		return err
	}
	return copyExecutable(driver, p.driver)
}

// startGuardian starts a shell that waits for the end of a pipe whose writing end only this process holds: the kernel
// closes it also after a panic, a timeout of `go test`, or SIGKILL.
func (p *place) startGuardian() error {
	keep := "remove"
	if os.Getenv(keepVariable) != "" {
		keep = "keep"
	}
	p.guardian = exec.Command("/bin/sh", "-c", guardianScript, "guardian", p.directory, runMark, keep)
	p.guardian.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.guardian.Dir = "/"
	leash, err := p.guardian.StdinPipe()
	if err != nil {
		return err
	}
	p.leash = leash
	return p.guardian.Start()
}

// watch has the guardian end this process too.
func (p *place) watch(pid int) error {
	_, err := fmt.Fprintf(p.leash, "watch %d\n", pid)
	return err
}

// forget is for a process that has ended: its number may be another's soon.
func (p *place) forget(pid int) error {
	_, err := fmt.Fprintf(p.leash, "forget %d\n", pid)
	return err
}

// sweep ends what is left and removes the directory.
func (p *place) sweep() error {
	if err := p.leash.Close(); err != nil {
		return err
	}
	return p.guardian.Wait()
}

// environment is this process's own, marked, without what would change an agent or a cloud fingerprint.
func (p *place) environment(more ...string) []string {
	kept := []string{runMark + "=" + p.directory, "TMPDIR=" + p.directory}
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
