package main

// The behaviours with much data: parameters, COPY, pipelines, large results.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	copied    = 100_000
	pipelined = 500
	row       = 1 << 20
	// A client that streams keeps a few rows and one large parameter in memory, not the result.
	peakKiB = 300 << 10
)

func prepared(ctx context.Context, t target) (string, error) {
	conn, err := t.connect(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	if _, err := conn.Prepare(ctx, "double", "SELECT $1::int * 2, $2::text || '!'"); err != nil {
		return "", err
	}
	for number := range 100 {
		var doubled int
		var text string
		if err := conn.QueryRow(ctx, "double", number, fmt.Sprint("n", number)).Scan(&doubled, &text); err != nil {
			return "", err
		}
		if doubled != number*2 || text != fmt.Sprintf("n%d!", number) {
			return "", fmt.Errorf("got %d, %s", doubled, text)
		}
	}
	return "100 executions", nil
}

func largeParameter(ctx context.Context, t target) (string, error) {
	conn, err := t.connect(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	value := make([]byte, 16<<20)
	for index := range value {
		value[index] = byte(index * 31 % 251)
	}
	var back []byte
	if err := conn.QueryRow(ctx, "SELECT $1::bytea", value).Scan(&back); err != nil {
		return "", err
	}
	if !bytes.Equal(value, back) {
		return "", errors.New("the value came back changed")
	}
	return fmt.Sprintf("%d bytes there and back", len(value)), nil
}

func copyIn(ctx context.Context, t target) (string, error) {
	conn, err := t.connect(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "CREATE TEMP TABLE copied (id int, words text)"); err != nil {
		return "", err
	}
	source := pgx.CopyFromSlice(copied, func(i int) ([]any, error) { return []any{i, fmt.Sprint("line ", i)}, nil })
	if _, err := conn.CopyFrom(ctx, pgx.Identifier{"copied"}, []string{"id", "words"}, source); err != nil {
		return "", err
	}
	var count, sum int64
	if err := conn.QueryRow(ctx, "SELECT count(*), sum(id)::bigint FROM copied").Scan(&count, &sum); err != nil {
		return "", err
	}
	if count != copied || sum != copied*(copied-1)/2 {
		return "", fmt.Errorf("got %d, %d", count, sum)
	}
	return fmt.Sprintf("%d rows", copied), nil
}

func copyOut(ctx context.Context, t target) (string, error) {
	conn, err := t.connect(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	var got, wanted bytes.Buffer
	sql := fmt.Sprintf("COPY (SELECT i, 'line ' || i FROM generate_series(0, %d) i) TO STDOUT", copied-1)
	if _, err := conn.PgConn().CopyTo(ctx, &got, sql); err != nil {
		return "", err
	}
	for i := range copied {
		fmt.Fprintf(&wanted, "%d\tline %d\n", i, i)
	}
	if !bytes.Equal(got.Bytes(), wanted.Bytes()) {
		return "", errors.New("the rows were changed")
	}
	return fmt.Sprintf("%d rows", copied), nil
}

func pipeline(ctx context.Context, t target) (string, error) {
	conn, err := t.connect(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	batch := &pgx.Batch{}
	for number := range pipelined {
		batch.Queue("SELECT $1::int", number)
	}
	results := conn.SendBatch(ctx, batch)
	for number := range pipelined {
		var got int
		if err := results.QueryRow().Scan(&got); err != nil {
			return "", errors.Join(err, results.Close())
		}
		if got != number {
			return "", errors.Join(fmt.Errorf("got %d for %d", got, number), results.Close())
		}
	}
	if err := results.Close(); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d queries at once, and an aborted pipeline", pipelined), abortedPipeline(ctx, conn.PgConn())
}

func abortedPipeline(ctx context.Context, conn *pgconn.PgConn) error {
	pipe := conn.StartPipeline(ctx)
	for _, sql := range []string{"SELECT 1/0", "CREATE TEMP TABLE skipped ()"} {
		pipe.SendQueryParams(sql, nil, nil, nil, nil)
	}
	if err := pipe.Sync(); err != nil {
		return err
	}
	pipe.SendQueryParams("SELECT to_regclass('skipped') IS NULL", nil, nil, nil, nil)
	if err := pipe.Sync(); err != nil {
		return err
	}
	var failure error
	var skipped []byte
	for syncs := 0; syncs < 2; {
		result, err := pipe.GetResults()
		switch result := result.(type) {
		case *pgconn.PipelineSync:
			syncs++
		case *pgconn.ResultReader:
			read := result.Read()
			if read.Err != nil {
				failure = read.Err
			} else if len(read.Rows) == 1 {
				skipped = read.Rows[0][0]
			}
		default:
			if err == nil {
				return fmt.Errorf("%T in a pipeline", result)
			}
			failure = err
		}
	}
	if err := pipe.Close(); err != nil {
		return err
	}
	if string(skipped) != "t" {
		return fmt.Errorf("the statement after the error was run: %q", skipped)
	}
	return hasState(failure, "22012")
}

func largeResult(ctx context.Context, t target) (string, error) {
	conn, err := t.connect(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	started := time.Now()
	sql := fmt.Sprintf("SELECT i, repeat(md5(i::text), %d) FROM generate_series(1, $1::bigint) i", row/32)
	rows, err := conn.Query(ctx, sql, t.large/row)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var wanted int64
	for rows.Next() {
		wanted++
		var index int64
		var text []byte
		if err := rows.Scan(&index, &text); err != nil {
			return "", err
		}
		// A text of repeated 32-byte pieces equals itself shifted by 32 bytes.
		if index != wanted || len(text) != row || !bytes.Equal(text[32:], text[:row-32]) {
			return "", fmt.Errorf("row %d was changed", wanted)
		}
	}
	if err := rows.Err(); err != nil {
		return "", err
	}
	if wanted != t.large/row {
		return "", fmt.Errorf("%d rows of %d", wanted, t.large/row)
	}
	took := time.Since(started).Milliseconds()
	peak, err := peakMemory()
	return fmt.Sprintf("%d bytes in %d ms, peak memory %d KiB", t.large, took, peak), err
}

func peakMemory() (int, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		var peak int
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &peak); err == nil {
			if peak > peakKiB {
				return peak, fmt.Errorf("this client needed %d KiB", peak)
			}
			return peak, nil
		}
	}
	return 0, errors.New("no VmHWM")
}
