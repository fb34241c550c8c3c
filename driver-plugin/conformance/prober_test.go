// Clients that connect all the time, and one that stays connected: the tests count what they notice.

package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// connectEvery is the interval of new clients. Each connects, logs in, sends one query and leaves. With half of it, a
	// development build and two cores have too little left to serve those that waited through an event.
	connectEvery = 10 * time.Millisecond
	// connectLimit is the time after which a client without an answer counts as lost.
	connectLimit = time.Minute
	// clientsAtOnce bounds the clients that wait. Clients beyond it are counted as late.
	clientsAtOnce = 2000
	// pingEvery is the interval of queries on the open session.
	pingEvery = 50 * time.Millisecond
)

func parseURL(t *testing.T, text string) (credentials, string) {
	t.Helper()
	parsed, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := parsed.User.Password()
	return credentials{user: parsed.User.Username(), password: password}, parsed.Path[1:]
}

// target is the configuration of a client of the proxy.
func target(t *testing.T, app credentials, database, address string) *pgconn.Config {
	t.Helper()
	place := url.URL{
		Scheme: "postgres", User: url.UserPassword(app.user, app.password), Host: address, Path: database,
		RawQuery: "sslmode=disable",
	}
	config, err := pgconn.ParseConfig(place.String())
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// attempt is the result of one client.
type attempt struct {
	began time.Time
	took  time.Duration
	err   error
}

// refused means that nothing listened, which a socket that is kept open always prevents.
func (a attempt) refused() bool { return errors.Is(a.err, syscall.ECONNREFUSED) }

// visit connects, logs in, sends one query, and leaves.
func visit(config *pgconn.Config) attempt {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), connectLimit)
	defer cancel()
	err := func() error {
		connection, err := pgconn.ConnectConfig(ctx, config)
		if err != nil {
			return err
		}
		defer connection.Close(ctx)
		_, err = connection.Exec(ctx, "select 1").ReadAll()
		return err
	}()
	return attempt{began: began, took: time.Since(began), err: err}
}

// prober starts a client every 10 ms until it is stopped.
type prober struct {
	config *pgconn.Config
	stop   chan struct{}
	slots  chan struct{}

	lock     sync.Mutex
	ended    *sync.Cond
	attempts []attempt
	under    map[time.Time]int
	late     int
}

func startProber(t *testing.T, config *pgconn.Config) *prober {
	p := &prober{
		config: config, stop: make(chan struct{}), slots: make(chan struct{}, clientsAtOnce),
		under: map[time.Time]int{},
	}
	p.ended = sync.NewCond(&p.lock)
	go p.run()
	t.Cleanup(p.halt)
	return p
}

func (p *prober) run() {
	ticks := time.NewTicker(connectEvery)
	defer ticks.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-ticks.C:
		}
		select {
		case p.slots <- struct{}{}:
			go p.client()
		default:
			p.lock.Lock()
			p.late++
			p.lock.Unlock()
		}
	}
}

func (p *prober) client() {
	began := time.Now()
	p.lock.Lock()
	p.under[began]++
	p.lock.Unlock()
	one := visit(p.config)
	<-p.slots
	p.lock.Lock()
	defer p.lock.Unlock()
	if p.under[began]--; p.under[began] == 0 {
		delete(p.under, began)
	}
	p.attempts = append(p.attempts, one)
	p.ended.Broadcast()
}

// halt starts no more clients and waits for those that run.
func (p *prober) halt() {
	p.lock.Lock()
	select {
	case <-p.stop:
	default:
		close(p.stop)
	}
	p.lock.Unlock()
	p.settle(time.Now())
}

// settle waits for all clients that began before a time. Each is bounded by connectLimit.
func (p *prober) settle(before time.Time) {
	p.lock.Lock()
	defer p.lock.Unlock()
	for {
		waiting := false
		for began := range p.under {
			waiting = waiting || began.Before(before)
		}
		if !waiting {
			return
		}
		p.ended.Wait()
	}
}

// served counts the clients that began after a time and were served.
func (p *prober) served(after time.Time) int {
	p.lock.Lock()
	defer p.lock.Unlock()
	count := 0
	for _, one := range p.attempts {
		if one.began.After(after) && one.err == nil {
			count++
		}
	}
	return count
}

// mustServe waits until so many more clients were served.
func (p *prober) mustServe(t *testing.T, count int) {
	t.Helper()
	since := time.Now()
	eventually(t, patience, fmt.Sprintf("%d more clients are served", count), func() error {
		if served := p.served(since); served < count {
			return fmt.Errorf("%d so far", served)
		}
		return nil
	})
}

// tally counts the clients of a period.
type tally struct {
	Connects int           `json:"connects"`
	Failed   int           `json:"failed"`
	Refused  int           `json:"refused"`
	Late     int           `json:"late"`
	Slowest  time.Duration `json:"slowest_ns"`
	faults   map[string]int
}

// between counts the clients that began within a period, after all of them have ended.
func (p *prober) between(from, to time.Time) tally {
	p.settle(to)
	p.lock.Lock()
	defer p.lock.Unlock()
	counted := tally{faults: map[string]int{}, Late: p.late}
	p.late = 0
	for _, one := range p.attempts {
		if one.began.Before(from) || one.began.After(to) {
			continue
		}
		counted.Connects++
		counted.Slowest = max(counted.Slowest, one.took)
		if one.err != nil {
			counted.Failed++
			counted.faults[one.err.Error()]++
		}
		if one.refused() {
			counted.Refused++
		}
	}
	return counted
}

// session is a client that stays connected.
type session struct {
	connection *pgconn.PgConn
	backend    uint32
	stop       chan struct{}
	ended      chan struct{}
	// Both are set when `ended` is closed.
	err   error
	until time.Time
}

// openSession connects and sends queries until the session ends or is closed.
func openSession(t *testing.T, config *pgconn.Config) *session {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), connectLimit)
	defer cancel()
	connection, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	s := &session{connection: connection, backend: connection.PID(), stop: make(chan struct{}), ended: make(chan struct{})}
	go s.talk()
	t.Cleanup(s.close)
	return s
}

func (s *session) talk() {
	defer close(s.ended)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), connectLimit)
		result, err := s.connection.Exec(ctx, "select pg_backend_pid()").ReadAll()
		cancel()
		if err == nil && string(result[0].Rows[0][0]) != fmt.Sprint(s.backend) {
			err = fmt.Errorf("another backend answers: %s instead of %d", result[0].Rows[0][0], s.backend)
		}
		if err != nil {
			s.err, s.until = err, time.Now()
			return
		}
		select {
		case <-s.stop:
			return
		case <-time.After(pingEvery):
		}
	}
}

// alive reports whether the session is still connected to the same backend.
func (s *session) alive() bool {
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

// fault is the reason for the end of the session, if it has ended.
func (s *session) fault() error {
	if s.alive() {
		return nil
	}
	return s.err
}

func (s *session) close() {
	select {
	case <-s.stop:
	default:
		close(s.stop)
	}
	<-s.ended
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	_ = s.connection.Close(ctx)
}
