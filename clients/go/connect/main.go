// Connects once, as a page of the documentation says, and prints `connected`. Argument: connection string.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "argument: connection string")
		os.Exit(2)
	}
	connection, err := pgx.Connect(context.Background(), os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("connected")
	_ = connection.Close(context.Background())
}
