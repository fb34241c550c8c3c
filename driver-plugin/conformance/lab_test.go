// A real Patroni cluster: the lab of this repository, as a program that is controlled through its standard input.

package conformance

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// labReady begins the line after which the lab accepts commands.
	labReady = "Ctrl-C ends it all"
	// labStart bounds the start, with initdb and a base backup.
	labStart = 3 * time.Minute
	labEnd   = time.Minute
	// labLines is how many lines of the lab are kept for a test.
	labLines = 1000
	// labConnections is max_connections of the servers. On a busy machine, all clients that waited may be logged in at
	// the same time.
	labConnections = "2000"
)

// lab is a running cluster with the members "a" and "b".
type lab struct {
	t        *testing.T
	scope    string
	etcd     []string
	probe    credentials
	app      credentials
	database string

	commands io.WriteCloser
	lines    chan string
}

type credentials struct{ user, password string }

func startLab(t *testing.T) *lab {
	t.Helper()
	program, err := builtLab()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(program, "up", "--max-connections", labConnections)
	// Not marked as this run's: the lab has a guardian of its own, which must outlive it to clean up.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	commands, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	command.Stderr = command.Stdout
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	if err := here.watch(command.Process.Pid); err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, commands: commands, lines: make(chan string, labLines)}
	go l.read(output)
	t.Cleanup(func() { l.end(command) })
	l.describe()
	return l
}

func (l *lab) read(output io.Reader) {
	defer close(l.lines)
	for scanner := bufio.NewScanner(output); scanner.Scan(); {
		select {
		case l.lines <- scanner.Text():
		default:
		}
	}
}

func (l *lab) end(command *exec.Cmd) {
	// The lab handles the signal once it no longer waits for a line.
	_ = l.commands.Close()
	_ = command.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(labEnd, func() { _ = command.Process.Kill() })
	_ = command.Wait()
	late.Stop()
	if err := here.forget(command.Process.Pid); err != nil {
		l.t.Error(err)
	}
}

// describe reads the lab's description of its cluster.
func (l *lab) describe() {
	l.t.Helper()
	deadline := time.Now().Add(labStart)
	var said []string
	for {
		line := receive(l.t, time.Until(deadline), "the lab's description; so far: "+strings.Join(said, "\n"), l.lines)
		said = append(said, line)
		words := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, labReady):
			if l.scope == "" || len(l.etcd) == 0 || l.probe.user == "" || l.app.user == "" {
				l.t.Fatalf("the lab's description is incomplete: %s", strings.Join(said, "\n"))
			}
			return
		case strings.HasPrefix(line, "scope "):
			l.scope = strings.TrimSuffix(words[1], ",")
		case strings.HasPrefix(line, "etcd "):
			l.etcd = append(l.etcd, words[1])
		case strings.HasPrefix(line, "member "):
			l.app, l.database = parseURL(l.t, words[2])
		case strings.HasPrefix(line, "probe user "):
			l.probe = credentials{user: words[2], password: words[len(words)-1]}
		}
	}
}

// switchover makes a member the leader. It returns when it is.
func (l *lab) switchover(member string) {
	l.t.Helper()
	if _, err := fmt.Fprintf(l.commands, "switchover %s\n", member); err != nil {
		l.t.Fatal(err)
	}
	for {
		switch line := receive(l.t, patience, "the end of the switchover", l.lines); {
		case line == "done":
			return
		case line != "":
			l.t.Fatalf("switchover to %s: %s", member, line)
		}
	}
}
