// The pgx client: runs each behaviour against one server and prints `ok` or `FAILED` for it.
//
// Arguments: connection string, file of the CA, file of another CA, bytes of the large result.
// pgx supports everything in the list: direct TLS, channel binding, pipelines and protocol 3.2.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// bound is the time for one behaviour. A gigabyte takes a few seconds.
const bound = 90 * time.Second

// prompt is the time for what happens at once, on a machine busy with other tests.
const prompt = 5 * time.Second

type target struct {
	url, ca, otherCA string
	large            int64
}

// connect opens a session; each setting is a parameter of the connection string.
func (t target) connect(ctx context.Context, settings ...string) (*pgx.Conn, error) {
	if len(settings) == 0 {
		settings = []string{"sslmode=disable"}
	}
	config, err := pgx.ParseConfig(t.url + "?" + strings.Join(settings, "&"))
	if err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, config)
}

func (t target) verified(settings ...string) []string {
	return append([]string{"sslmode=verify-full", "sslrootcert=" + t.ca}, settings...)
}

type behaviour struct {
	name string
	run  func(context.Context, target) (string, error)
}

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "arguments: connection string, file of the CA, file of another CA, bytes of the large result")
		os.Exit(2)
	}
	large, err := strconv.ParseInt(os.Args[4], 10, 64)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bytes of the large result:", err)
		os.Exit(2)
	}
	t := target{os.Args[1], os.Args[2], os.Args[3], large}
	failed := false
	for _, b := range behaviours {
		ctx, cancel := context.WithTimeout(context.Background(), bound)
		detail, err := b.run(ctx, t)
		cancel()
		if err != nil {
			failed = true
			fmt.Printf("FAILED %s: %s\n", b.name, strings.Join(strings.Fields(err.Error()), " "))
			continue
		}
		fmt.Println(strings.TrimSpace("ok " + b.name + " " + detail))
	}
	if failed {
		os.Exit(1)
	}
}
