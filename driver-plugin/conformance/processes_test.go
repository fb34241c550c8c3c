// The processes of the driver in /proc, and their roles.

package conformance

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/hashicorp/nomad/client/lib/cgroupslib"
)

// The roles of the driver's executable: its first argument. The plugin has none.
const (
	rolePlugin     = ""
	roleSupervisor = "supervisor"
	roleProxy      = "proxy"
)

// process identifies a process by pid and start time.
type process struct {
	pid       int
	startTime string
	role      string
}

func (p process) String() string {
	role := p.role
	if role == rolePlugin {
		role = "plugin"
	}
	return fmt.Sprintf("%s %d", role, p.pid)
}

func (p process) alive() bool {
	now, err := inspect(p.pid)
	return err == nil && now.startTime == p.startTime
}

// driverProcesses finds all processes that run this executable.
func driverProcesses(executable string) []process {
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	var found []process
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || strings.TrimSuffix(target, " (deleted)") != executable {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link)))
		if err != nil {
			continue
		}
		if p, err := inspect(pid); err == nil {
			found = append(found, p)
		}
	}
	return found
}

// driverProcess finds the only process of a role.
func driverProcess(executable, role string) (process, error) {
	var found []process
	for _, p := range driverProcesses(executable) {
		if p.role == role {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		return process{}, fmt.Errorf("expected one process of the role %q, found %v", role, found)
	}
	return found[0], nil
}

// proxyOf finds the proxy process in the cgroup that Nomad made for a task.
func proxyOf(allocID, task string) (process, error) {
	pids, err := cgroupProcesses(allocID, task)
	if err != nil {
		return process{}, err
	}
	for _, pid := range pids {
		if p, err := inspect(pid); err == nil && p.role == roleProxy {
			return p, nil
		}
	}
	return process{}, fmt.Errorf("no proxy process in the task's cgroup, which holds the processes %v", pids)
}

// cgroupProcesses reads the task's cgroup; in version 1 that of the freezer.
func cgroupProcesses(allocID, task string) ([]int, error) {
	path := cgroupslib.LinuxResourcesPath(allocID, task, false)
	if cgroupslib.GetMode() == cgroupslib.CG1 {
		path = cgroupslib.PathCG1(allocID, task, "freezer")
	}
	content, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, field := range strings.Fields(string(content)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

func inspect(pid int) (process, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	// The second field, the name in parentheses, may contain anything, so counting begins after it. The state is field
	// 3, the start time field 22 (proc_pid_stat(5)).
	_, rest, _ := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')'):]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 20 || fields[0] == "Z" {
		return process{}, fmt.Errorf("process %d has exited", pid)
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return process{}, err
	}
	role := rolePlugin
	if arguments := strings.Split(strings.TrimRight(string(line), "\x00"), "\x00"); len(arguments) > 1 {
		role = arguments[1]
	}
	return process{pid: pid, startTime: fields[19], role: role}, nil
}
