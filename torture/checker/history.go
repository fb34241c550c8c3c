package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"sort"

	"github.com/anishathalye/porcupine"
)

// maxLine is the longest line that is read, in bytes: an answer has two whole lists.
const maxLine = 16 << 20

// event is a line of the history.
type event struct {
	Process int             `json:"process"`
	Type    string          `json:"type"`
	F       string          `json:"f"`
	Key     int64           `json:"key"`
	Value   json.RawMessage `json:"value"`
	Time    int64           `json:"time"`
	Server  string          `json:"server"`
}

// history is everything that was done with one key.
type history struct {
	name       string
	model      porcupine.Model
	operations []porcupine.Operation
}

// operation is one that has been invoked. Its output is nil until it is acknowledged.
type operation struct {
	invoke event
	output *event
	end    int64
}

// read returns the histories of all keys.
func read(in io.Reader) ([]history, error) {
	open := map[int]*operation{}
	byKey := map[string][]*operation{}
	scanner := bufio.NewScanner(in)
	scanner.Buffer(nil, maxLine)
	for number := 1; scanner.Scan(); number++ {
		var line event
		if err := json.Unmarshal(scanner.Bytes(), &line); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		current := open[line.Process]
		if (line.Type == "invoke") != (current == nil) {
			return nil, fmt.Errorf("line %d: process %d: %q out of turn", number, line.Process, line.Type)
		}
		switch line.Type {
		case "invoke":
			open[line.Process] = &operation{invoke: line, end: math.MaxInt64}
			continue
		case "ok":
			current.output, current.end = &line, line.Time
		case "info":
			// Whether and when it takes effect stays open for ever.
		case "fail":
			current = nil
		default:
			return nil, fmt.Errorf("line %d: there is no type %q", number, line.Type)
		}
		if current != nil {
			name := fmt.Sprintf("%s-%d", kind(line.F), line.Key)
			byKey[name] = append(byKey[name], current)
		}
		delete(open, line.Process)
	}
	if err := scanner.Err(); err != nil {
		return nil, err
	}
	for _, current := range open {
		name := fmt.Sprintf("%s-%d", kind(current.invoke.F), current.invoke.Key)
		byKey[name] = append(byKey[name], current)
	}
	return histories(byKey)
}

func histories(byKey map[string][]*operation) ([]history, error) {
	names := make([]string, 0, len(byKey))
	for name := range byKey {
		names = append(names, name)
	}
	sort.Strings(names)
	all := make([]history, 0, len(names))
	for _, name := range names {
		operations := byKey[name]
		one, err := registerHistory(operations)
		if kind(operations[0].invoke.F) == "lists" {
			one, err = listsHistory(operations)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		one.name = name
		all = append(all, one)
	}
	return all, nil
}

func kind(f string) string {
	if f == "append" || f == "read-lists" {
		return "lists"
	}
	return "register"
}

// confirmedOnly leaves out the plain reads.
func confirmedOnly(operations []porcupine.Operation) []porcupine.Operation {
	var confirmed []porcupine.Operation
	for _, operation := range operations {
		if !operation.Metadata.(bool) {
			confirmed = append(confirmed, operation)
		}
	}
	return confirmed
}

func complete(one *operation, input, output any, plain bool) porcupine.Operation {
	return porcupine.Operation{
		ClientId: one.invoke.Process,
		Input:    input,
		Call:     one.invoke.Time,
		Output:   output,
		Return:   one.end,
		Metadata: plain,
	}
}
