// What clients notice when the plugin, the agent, the task or the leader are replaced: nothing, or a wait. There is a
// real cluster, a new client every 5 ms, and one open session.

package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
)

const (
	// deployedJob is the job file that operators copy.
	deployedJob = "nomad/pg-leader-proxy.nomad.hcl"
	// impactVariable names a file for the table as JSON.
	impactVariable = "PGLP_CLIENT_IMPACT"
	// calm is how many clients must be served before and after each event.
	calm = 200
	// liveness bounds the slowest client.
	liveness = 45 * time.Second
	// quietClient is how long a client waits that connects during the drain.
	quietClient = 3 * time.Second
)

// row is one line of the table.
type row struct {
	Event string `json:"event"`
	tally
	Restarts int    `json:"restarts"`
	Session  string `json:"session"`
}

// deployment is the cluster, the agent, the job and its clients.
type deployment struct {
	t       *testing.T
	lab     *lab
	agent   *agent
	job     *job
	alloc   *api.Allocation
	write   string
	read    string
	admin   string
	prober  *prober
	session *session
	rows    []row
}

func TestClientImpact(t *testing.T) {
	s := &deployment{t: t, lab: startLab(t), agent: startAgent(t, true)}
	s.deploy()
	// The table is useful even if a line of it is wrong.
	defer s.report()
	s.openSession()
	s.prober = startProber(t, target(t, s.lab.app, s.lab.database, s.write))
	s.prober.mustServe(t, calm)

	for _, one := range []struct {
		event  string
		must   func(*testing.T, string, func())
		happen func()
	}{
		{"plugin SIGKILL", s.mustTouchNothing, s.killPlugin},
		{"job update", s.mustFailNobody, s.updateJob},
		{"alloc restart", s.mustFailNobody, s.restartTask},
		{"crash of the proxy process", s.mustRestartWithoutNomad, s.crash},
		{"agent SIGKILL and back", s.mustTouchNothing, s.killAgent},
		{"agent restart", s.mustTouchNothing, s.restartAgent},
		// This takes 2 s longer: Nomad waits in vain for the end of a log collector that is not its child.
		{"job update after an agent restart", s.mustFailNobody, s.updateJob},
		{"switchover", s.mustNameTheNewLeader, s.switchover},
	} {
		t.Run(one.event, func(t *testing.T) {
			if !s.session.alive() {
				s.openSession()
			}
			one.must(t, one.event, one.happen)
		})
	}
	t.Run("job stop", s.mustDrainAndFallSilent)
}

// deploy runs the operators' job, with the password in a Nomad variable.
func (s *deployment) deploy() {
	s.t.Helper()
	parsed := s.parse()
	_, _, err := s.agent.api.Variables().Create(&api.Variable{
		Path:  "nomad/jobs/" + *parsed.ID,
		Items: api.VariableItems{"probe_password": s.lab.probe.password},
	}, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.job = s.agent.run(s.t, parsed)
	s.alloc = s.job.mustRun("")
}

func (s *deployment) parse() *api.Job {
	s.t.Helper()
	if s.write == "" {
		for _, address := range []*string{&s.write, &s.read, &s.admin} {
			*address = fmt.Sprintf("127.0.0.1:%d", freePort(s.t))
		}
	}
	return readJob(s.t, deployedJob, map[string]string{
		"scope":          s.lab.scope,
		"etcd_endpoints": `["` + strings.Join(s.lab.etcd, `","`) + `"]`,
		"probe_user":     s.lab.probe.user,
		"write_port":     portOf(s.write),
		"read_port":      portOf(s.read),
		"admin_port":     portOf(s.admin),
	})
}

func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

func (s *deployment) openSession() {
	s.t.Helper()
	s.session = openSession(s.t, target(s.t, s.lab.app, s.lab.database, s.write))
}

// during counts clients from just before an event until all are served again.
func (s *deployment) during(t *testing.T, event string, happen func()) row {
	t.Helper()
	outer := [...]testing.TB{s.agent.t, s.job.t}
	s.agent.t, s.job.t, s.lab.t = t, t, t
	defer func() { s.agent.t, s.job.t, s.lab.t = outer[0], outer[1], s.t }()
	restarts := s.restarts()
	alloc := s.alloc.ID
	from := time.Now()
	happen()
	s.prober.mustServe(t, calm)
	line := row{Event: event, tally: s.prober.between(from, time.Now()), Session: "terminated"}
	if s.session.alive() {
		line.Session = "untouched"
	}
	// A new allocation has no earlier restarts.
	if line.Restarts = s.restarts(); s.alloc.ID == alloc {
		line.Restarts -= restarts
	}
	s.rows = append(s.rows, line)
	for fault, count := range line.faults {
		t.Logf("%d × %s", count, fault)
	}
	if line.Slowest > liveness {
		t.Errorf("the slowest client waited %v", line.Slowest)
	}
	return line
}

func (s *deployment) restarts() int {
	s.alloc = s.job.fresh(s.alloc)
	if state := s.alloc.TaskStates[taskName]; state != nil {
		return int(state.Restarts)
	}
	return 0
}

func (s *deployment) proxyProcess() process {
	s.job.t.Helper()
	var found process
	eventually(s.job.t, patience, "the proxy process runs", func() (err error) {
		found, err = proxyOf(s.alloc.ID, taskName)
		return err
	})
	return found
}

// mustTouchNothing: the same process, the same session, no failed client, and everything works afterwards.
func (s *deployment) mustTouchNothing(t *testing.T, event string, happen func()) {
	before, err := proxyOf(s.alloc.ID, taskName)
	if err != nil {
		t.Fatal(err)
	}
	line := s.during(t, event, func() {
		happen()
		s.job.mustServe(s.alloc)
	})
	if line.Failed != 0 || line.Restarts != 0 || !s.session.alive() {
		t.Errorf("%+v; the session: %v", line, s.session.fault())
	}
	if !before.alive() {
		t.Error("the process of the task was replaced")
	}
}

func (s *deployment) killPlugin() {
	t := s.job.t
	t.Helper()
	before, err := driverProcess(s.agent.executable(), rolePlugin)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(before.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "Nomad has started another plugin", func() error {
		now, err := driverProcess(s.agent.executable(), rolePlugin)
		if err == nil && now.pid == before.pid {
			err = errors.New("the same still runs")
		}
		return err
	})
}

func (s *deployment) killAgent() {
	s.agent.kill()
	s.prober.mustServe(s.t, calm)
	s.agent.start()
}

func (s *deployment) restartAgent() {
	s.agent.stop()
	s.prober.mustServe(s.t, calm)
	s.agent.start()
}

// mustFailNobody: clients may wait, but all are served.
func (s *deployment) mustFailNobody(t *testing.T, event string, happen func()) {
	if line := s.during(t, event, happen); line.Failed != 0 {
		t.Errorf("%+v", line)
	}
}

// mustRestartWithoutNomad: clients that were logging in through the dead process fail; no connection is refused, and the
// task's supervisor starts the process again, which Nomad learns by an event.
func (s *deployment) mustRestartWithoutNomad(t *testing.T, event string, happen func()) {
	if line := s.during(t, event, happen); line.Refused != 0 || line.Restarts != 0 {
		t.Errorf("%+v", line)
	}
	eventually(t, patience, "an event tells of the restart", func() error {
		s.alloc = s.job.fresh(s.alloc)
		if told := events(s.alloc); !strings.Contains(told, "started again in") {
			return fmt.Errorf("events: %s", told)
		}
		return nil
	})
}

// updateJob changes the task's environment, for which Nomad replaces the allocation.
func (s *deployment) updateJob() {
	parsed := s.parse()
	task := parsed.TaskGroups[0].Tasks[0]
	if task.Env == nil {
		task.Env = map[string]string{}
	}
	task.Env["UPDATED"] = time.Now().String()
	before := s.alloc.ID
	s.job.agent.run(s.job.t, parsed)
	s.alloc = s.job.mustRun(before)
}

func (s *deployment) restartTask() {
	before := s.proxyProcess()
	if err := s.agent.api.Allocations().Restart(s.alloc, taskName, nil); err != nil {
		s.job.t.Fatal(err)
	}
	s.mustRunAnew(before)
}

func (s *deployment) crash() {
	before := s.proxyProcess()
	if err := syscall.Kill(before.pid, syscall.SIGKILL); err != nil {
		s.job.t.Fatal(err)
	}
	s.mustRunAnew(before)
}

func (s *deployment) mustRunAnew(before process) {
	s.job.t.Helper()
	eventually(s.job.t, patience, "another proxy process runs", func() error {
		now, err := proxyOf(s.alloc.ID, taskName)
		if err == nil && now == before {
			err = errors.New("the same still runs")
		}
		return err
	})
	s.job.mustRun("")
}

// newLeader is the target of the switchover.
const newLeader = "b"

func (s *deployment) switchover() {
	s.lab.switchover(newLeader)
	eventually(s.job.t, patience, "an event names the new leader", func() error {
		if s.leaderEvents() == 0 {
			return fmt.Errorf("events: %s", events(s.alloc))
		}
		return nil
	})
}

// leaderEvents counts the driver's events that name the new leader.
func (s *deployment) leaderEvents() int {
	s.alloc = s.job.fresh(s.alloc)
	count := 0
	for _, event := range taskEvents(s.alloc) {
		if event.Type == api.TaskDriverMessage && strings.Contains(event.DisplayMessage, "leader is now "+newLeader) {
			count++
		}
	}
	return count
}

// mustNameTheNewLeader: exactly one event names the new leader.
func (s *deployment) mustNameTheNewLeader(t *testing.T, event string, happen func()) {
	line := s.during(t, event, happen)
	t.Log(events(s.alloc))
	if count := s.leaderEvents(); count != 1 {
		t.Errorf("%d events name the new leader: %s", count, events(s.alloc))
	}
	if line.Refused != 0 || line.Restarts != 0 {
		t.Errorf("%+v", line)
	}
}

// mustDrainAndFallSilent: the open session continues until kill_timeout, new clients are not served, and at last
// nothing listens.
func (s *deployment) mustDrainAndFallSilent(t *testing.T) {
	s.prober.halt()
	if !s.session.alive() {
		s.openSession()
	}
	killTimeout := *s.parse().TaskGroups[0].Tasks[0].KillTimeout
	began := time.Now()
	s.job.stop()
	eventually(t, patience, "the proxy drains", s.draining)
	if s.visitWithin(quietClient) == nil {
		t.Error("a client was served during the drain")
	}
	select {
	case <-s.session.ended:
	case <-time.After(patience):
		t.Fatal("the session was never terminated")
	}
	lived := s.session.until.Sub(began)
	if lived < killTimeout {
		t.Errorf("the session was terminated after %v, before its kill_timeout of %v: %v", lived, killTimeout, s.session.fault())
	}
	for _, address := range []string{s.write, s.read, s.admin} {
		eventually(t, patience, "nothing listens at "+address, func() error {
			if err := listening(address); !errors.Is(err, syscall.ECONNREFUSED) {
				return fmt.Errorf("connecting says: %v", err)
			}
			return nil
		})
	}
	s.rows = append(s.rows, row{
		Event: "job stop", tally: tally{Connects: 1, Failed: 1},
		Session: fmt.Sprintf("terminated after %.1f s", lived.Seconds()),
	})
}

// draining asks the proxy's admin page, which exists until the end.
func (s *deployment) draining() error {
	client := http.Client{Timeout: soon}
	answer, err := client.Get("http://" + s.admin + "/ready")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), "draining") {
		return fmt.Errorf("%s: %s", answer.Status, body)
	}
	return nil
}

// visitWithin is a client with a shorter limit.
func (s *deployment) visitWithin(limit time.Duration) error {
	ended := make(chan attempt, 1)
	go func() { ended <- visit(target(s.t, s.lab.app, s.lab.database, s.write)) }()
	select {
	case one := <-ended:
		return one.err
	case <-time.After(limit):
		return errors.New("no answer in time")
	}
}

// report prints the table, and writes it as JSON to the file that a variable names.
func (s *deployment) report() {
	var text strings.Builder
	text.WriteString("| event | connects | failed | refused | slowest | restarts | open session |\n")
	text.WriteString("| --- | ---: | ---: | ---: | ---: | ---: | --- |\n")
	for _, line := range s.rows {
		fmt.Fprintf(&text, "| %s | %d | %d | %d | %d ms | %d | %s |\n", line.Event, line.Connects, line.Failed,
			line.Refused, line.Slowest.Milliseconds(), line.Restarts, line.Session)
	}
	fmt.Print(text.String())
	file := os.Getenv(impactVariable)
	if file == "" {
		return
	}
	encoded, err := json.MarshalIndent(s.rows, "", "  ")
	if err == nil {
		err = os.WriteFile(file, append(encoded, '\n'), 0o644)
	}
	if err != nil {
		s.t.Error(err)
	}
}
