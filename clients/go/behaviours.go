package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

var behaviours = []behaviour{
	{"tls_disable", func(ctx context.Context, t target) (string, error) {
		return "", t.encrypted(ctx, false, "sslmode=disable")
	}},
	{"tls_require", func(ctx context.Context, t target) (string, error) {
		return "", t.encrypted(ctx, true, "sslmode=require")
	}},
	{"tls_verify_full", func(ctx context.Context, t target) (string, error) {
		return "", t.encrypted(ctx, true, t.verified()...)
	}},
	{"tls_wrong_ca_refused", wrongCARefused},
	{"channel_binding", func(ctx context.Context, t target) (string, error) {
		return "", t.encrypted(ctx, true, t.verified("channel_binding=require")...)
	}},
	{"direct_tls", func(ctx context.Context, t target) (string, error) {
		return "", t.encrypted(ctx, true, t.verified("sslnegotiation=direct")...)
	}},
	{"scram_wrong_password_refused", wrongPasswordRefused},
	{"prepared", prepared},
	{"large_parameter", largeParameter},
	{"copy_in", copyIn},
	{"copy_out", copyOut},
	{"listen_notify", listenNotify},
	{"cancel", func(ctx context.Context, t target) (string, error) { return t.cancelled(ctx) }},
	{"cancel_tls", func(ctx context.Context, t target) (string, error) { return t.cancelled(ctx, t.verified()...) }},
	{"pipeline", pipeline},
	{"large_result", largeResult},
	{"error_keeps_session", errorKeepsSession},
	{"clean_close", cleanClose},
	{"protocol_3_2", protocol32},
}

func (t target) encrypted(ctx context.Context, wanted bool, settings ...string) error {
	conn, err := t.connect(ctx, settings...)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var ssl bool
	if err := conn.QueryRow(ctx, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").Scan(&ssl); err != nil {
		return err
	}
	if ssl != wanted {
		return fmt.Errorf("the server says that TLS is %t", ssl)
	}
	return nil
}

func wrongCARefused(ctx context.Context, t target) (string, error) {
	err := t.encrypted(ctx, true, "sslmode=verify-full", "sslrootcert="+t.otherCA)
	if err == nil {
		return "", errors.New("connected, though the CA signed nothing")
	}
	if !strings.Contains(err.Error(), "certificate signed by unknown authority") {
		return "", fmt.Errorf("refused for another reason: %w", err)
	}
	return "", nil
}

func wrongPasswordRefused(ctx context.Context, t target) (string, error) {
	config, err := pgx.ParseConfig(t.url + "?sslmode=disable")
	if err != nil {
		return "", err
	}
	config.Password = "wrong"
	_, err = pgx.ConnectConfig(ctx, config)
	return "", hasState(err, "28P01")
}

func listenNotify(ctx context.Context, t target) (string, error) {
	listener, err := t.connect(ctx)
	if err != nil {
		return "", err
	}
	defer listener.Close(ctx)
	other, err := t.connect(ctx)
	if err != nil {
		return "", err
	}
	defer other.Close(ctx)
	if _, err := listener.Exec(ctx, "LISTEN news"); err != nil {
		return "", err
	}
	long := strings.Repeat("x", 7999)
	if _, err := other.Exec(ctx, "SELECT pg_notify('news', 'first'), pg_notify('news', $1)", long); err != nil {
		return "", err
	}
	// The listening session sends no query, so the server must push both.
	for _, wanted := range []string{"first", long} {
		waiting, stop := context.WithTimeout(ctx, prompt)
		note, err := listener.WaitForNotification(waiting)
		stop()
		if err != nil {
			return "", err
		}
		if note.Payload != wanted {
			return "", fmt.Errorf("another payload: %.20q", note.Payload)
		}
	}
	return "2 payloads, one of them the longest possible", nil
}

func (t target) cancelled(ctx context.Context, settings ...string) (string, error) {
	conn, err := t.connect(ctx, settings...)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	process := conn.PgConn().PID()
	slept := make(chan error, 1)
	go func() {
		_, err := conn.Exec(ctx, "SELECT pg_sleep(60)")
		slept <- err
	}()
	if err := t.until(ctx, "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'", process, 1); err != nil {
		return "", err
	}
	started := time.Now()
	if err := conn.PgConn().CancelRequest(ctx); err != nil {
		return "", err
	}
	if err := hasState(<-slept, "57014"); err != nil {
		return "", err
	}
	took := time.Since(started)
	if took > prompt {
		return "", fmt.Errorf("only after %s", took)
	}
	var now uint32
	if err := conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&now); err != nil {
		return "", err
	}
	if now != process {
		return "", errors.New("another backend answers")
	}
	return fmt.Sprintf("after %d ms", took.Milliseconds()), nil
}

func errorKeepsSession(ctx context.Context, t target) (string, error) {
	conn, err := t.connect(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "SELECT * FROM nowhere")
	if err := hasState(err, "42P01"); err != nil {
		return "", err
	}
	var now uint32
	if err := conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&now); err != nil {
		return "", err
	}
	if now != conn.PgConn().PID() {
		return "", errors.New("another backend answers")
	}
	return "", nil
}

func cleanClose(ctx context.Context, t target) (string, error) {
	conn, err := t.connect(ctx)
	if err != nil {
		return "", err
	}
	process := conn.PgConn().PID()
	if err := conn.Close(ctx); err != nil {
		return "", err
	}
	return "", t.until(ctx, "SELECT count(*) FROM pg_stat_activity WHERE pid = $1", process, 0)
}

func protocol32(ctx context.Context, t target) (string, error) {
	settings := []string{"min_protocol_version=3.2", "max_protocol_version=3.2"}
	conn, err := t.connect(ctx, append(settings, "sslmode=disable")...)
	if err != nil {
		return "", err
	}
	length := len(conn.PgConn().SecretKey())
	if err := conn.Close(ctx); err != nil {
		return "", err
	}
	if length <= 4 {
		return "", fmt.Errorf("a secret of %d bytes", length)
	}
	if _, err := t.cancelled(ctx, append(settings, "sslmode=disable")...); err != nil {
		return "", err
	}
	detail, err := t.cancelled(ctx, t.verified(settings...)...)
	return fmt.Sprintf("cancelled with its secret of %d bytes %s", length, detail), err
}

func (t target) until(ctx context.Context, sql string, process uint32, wanted int) error {
	watcher, err := t.connect(ctx)
	if err != nil {
		return err
	}
	defer watcher.Close(ctx)
	for started := time.Now(); time.Since(started) < prompt; time.Sleep(20 * time.Millisecond) {
		var count int
		if err := watcher.QueryRow(ctx, sql, process).Scan(&count); err != nil {
			return err
		}
		if count == wanted {
			return nil
		}
	}
	return fmt.Errorf("not within %s: %s", prompt, sql)
}

func hasState(err error, wanted string) error {
	var reported *pgconn.PgError
	if !errors.As(err, &reported) || reported.Code != wanted {
		return fmt.Errorf("wanted SQLSTATE %s, got: %v", wanted, err)
	}
	return nil
}
