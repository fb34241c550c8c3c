// Command checker reads a history of registers and lists and says whether it is linearizable, with porcupine.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/anishathalye/porcupine"
)

// verdict is what the program prints.
type verdict struct {
	Operations int `json:"operations"`
	Keys       int `json:"keys"`
	// Keys whose history no order of the operations explains.
	Illegal []string `json:"illegal"`
	// Those of them that stay so without the plain reads: what a confirmed answer said was undone.
	IllegalConfirmed []string `json:"illegal_confirmed"`
	// Keys that took too long.
	Undecided []string `json:"undecided"`
}

func main() {
	timeout := flag.Duration("timeout", time.Minute, "how long one key may take")
	pictures := flag.String("pictures", "", "directory for a page about each key that is not linearizable")
	flag.Parse()
	if err := run(flag.Arg(0), *timeout, *pictures); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(path string, timeout time.Duration, pictures string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	histories, err := read(file)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	result := verdict{Illegal: []string{}, IllegalConfirmed: []string{}, Undecided: []string{}}
	for _, history := range histories {
		result.Keys++
		result.Operations += len(history.operations)
		switch porcupine.CheckOperationsTimeout(history.model, history.operations, timeout) {
		case porcupine.Ok:
		case porcupine.Unknown:
			result.Undecided = append(result.Undecided, history.name)
		case porcupine.Illegal:
			result.Illegal = append(result.Illegal, history.name)
			confirmed := confirmedOnly(history.operations)
			if porcupine.CheckOperationsTimeout(history.model, confirmed, timeout) == porcupine.Illegal {
				result.IllegalConfirmed = append(result.IllegalConfirmed, history.name)
			}
			if err := draw(history, timeout, pictures); err != nil {
				return err
			}
		}
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// draw writes porcupine's page about a history that is not linearizable.
func draw(history history, timeout time.Duration, directory string) error {
	if directory == "" {
		return nil
	}
	_, info := porcupine.CheckOperationsVerbose(history.model, history.operations, timeout)
	return porcupine.VisualizePath(history.model, info, filepath.Join(directory, history.name+".html"))
}
