package main

import (
	"strings"
	"testing"

	"github.com/anishathalye/porcupine"
)

// check judges the only key of a history: with all operations, and without the plain reads.
func check(t *testing.T, lines string) (all, confirmed bool) {
	t.Helper()
	histories, err := read(strings.NewReader(strings.TrimSpace(lines)))
	if err != nil {
		t.Fatal(err)
	}
	if len(histories) != 1 {
		t.Fatalf("%d keys", len(histories))
	}
	one := histories[0]
	return porcupine.CheckOperations(one.model, one.operations),
		porcupine.CheckOperations(one.model, confirmedOnly(one.operations))
}

func TestHistories(t *testing.T) {
	cases := []struct {
		name, lines    string
		all, confirmed bool
	}{
		{"a write and a read", `
{"process":0,"type":"invoke","f":"write","key":1,"value":5,"time":1}
{"process":0,"type":"ok","f":"write","key":1,"value":5,"time":2}
{"process":1,"type":"invoke","f":"read","key":1,"time":3}
{"process":1,"type":"ok","f":"read","key":1,"value":5,"time":4}`, true, true},
		{"a lost write", `
{"process":0,"type":"invoke","f":"write","key":1,"value":5,"time":1}
{"process":0,"type":"ok","f":"write","key":1,"value":5,"time":2}
{"process":1,"type":"invoke","f":"confirmed-read","key":1,"time":3}
{"process":1,"type":"ok","f":"confirmed-read","key":1,"value":0,"time":4}`, false, false},
		{"a stale plain read", `
{"process":0,"type":"invoke","f":"write","key":1,"value":5,"time":1}
{"process":0,"type":"ok","f":"write","key":1,"value":5,"time":2}
{"process":1,"type":"invoke","f":"read","key":1,"time":3}
{"process":1,"type":"ok","f":"read","key":1,"value":0,"time":4}
{"process":1,"type":"invoke","f":"confirmed-read","key":1,"time":5}
{"process":1,"type":"ok","f":"confirmed-read","key":1,"value":5,"time":6}`, false, true},
		{"two compare-and-sets from the same value", `
{"process":0,"type":"invoke","f":"cas","key":1,"value":[0,5],"time":1}
{"process":1,"type":"invoke","f":"cas","key":1,"value":[0,6],"time":2}
{"process":0,"type":"ok","f":"cas","key":1,"value":[0,5],"time":3}
{"process":1,"type":"ok","f":"cas","key":1,"value":[0,6],"time":4}`, false, false},
		{"an unknown write that takes effect late", `
{"process":0,"type":"invoke","f":"write","key":1,"value":5,"time":1}
{"process":0,"type":"info","f":"write","key":1,"value":5,"time":2}
{"process":1,"type":"invoke","f":"read","key":1,"time":3}
{"process":1,"type":"ok","f":"read","key":1,"value":0,"time":4}
{"process":1,"type":"invoke","f":"read","key":1,"time":5}
{"process":1,"type":"ok","f":"read","key":1,"value":5,"time":6}`, true, true},
		{"an unknown write that is undone", `
{"process":0,"type":"invoke","f":"write","key":1,"value":5,"time":1}
{"process":0,"type":"info","f":"write","key":1,"value":5,"time":2}
{"process":1,"type":"invoke","f":"confirmed-read","key":1,"time":3}
{"process":1,"type":"ok","f":"confirmed-read","key":1,"value":5,"time":4}
{"process":1,"type":"invoke","f":"confirmed-read","key":1,"time":5}
{"process":1,"type":"ok","f":"confirmed-read","key":1,"value":0,"time":6}`, false, false},
		{"a write that failed and is seen", `
{"process":0,"type":"invoke","f":"write","key":1,"value":5,"time":1}
{"process":0,"type":"fail","f":"write","key":1,"value":5,"time":2}
{"process":1,"type":"invoke","f":"read","key":1,"time":3}
{"process":1,"type":"ok","f":"read","key":1,"value":5,"time":4}`, false, true},
		{"an unknown write over which another one writes without being seen", `
{"process":0,"type":"invoke","f":"write","key":1,"value":5,"time":1}
{"process":0,"type":"info","f":"write","key":1,"value":5,"time":2}
{"process":1,"type":"invoke","f":"cas","key":1,"value":[5,6],"time":3}
{"process":1,"type":"info","f":"cas","key":1,"value":[5,6],"time":4}
{"process":2,"type":"invoke","f":"read","key":1,"time":5}
{"process":2,"type":"ok","f":"read","key":1,"value":6,"time":6}`, true, true},
		{"an operation without an end", `
{"process":0,"type":"invoke","f":"write","key":1,"value":5,"time":1}
{"process":1,"type":"invoke","f":"read","key":1,"time":3}
{"process":1,"type":"ok","f":"read","key":1,"value":5,"time":4}`, true, true},
		{"two appends, one after the other", `
{"process":0,"type":"invoke","f":"append","key":1,"value":{"id":5,"lists":[true,true]},"time":1}
{"process":0,"type":"ok","f":"append","key":1,"value":{"id":5,"lists":[true,true],"before":[[],[]]},"time":2}
{"process":0,"type":"invoke","f":"append","key":1,"value":{"id":6,"lists":[false,true]},"time":3}
{"process":0,"type":"ok","f":"append","key":1,"value":{"id":6,"lists":[false,true],"before":[[5],[5]]},"time":4}
{"process":0,"type":"invoke","f":"read-lists","key":1,"time":5}
{"process":0,"type":"ok","f":"read-lists","key":1,"value":[[5],[5,6]],"time":6}`, true, true},
		{"a lost append", `
{"process":0,"type":"invoke","f":"append","key":1,"value":{"id":5,"lists":[true,true]},"time":1}
{"process":0,"type":"ok","f":"append","key":1,"value":{"id":5,"lists":[true,true],"before":[[],[]]},"time":2}
{"process":0,"type":"invoke","f":"append","key":1,"value":{"id":6,"lists":[false,true]},"time":3}
{"process":0,"type":"ok","f":"append","key":1,"value":{"id":6,"lists":[false,true],"before":[[],[]]},"time":4}`, false, false},
		{"half of a transaction is seen", `
{"process":0,"type":"invoke","f":"append","key":1,"value":{"id":5,"lists":[true,true]},"time":1}
{"process":0,"type":"info","f":"append","key":1,"value":{"id":5,"lists":[true,true]},"time":2}
{"process":1,"type":"invoke","f":"read-lists","key":1,"time":3}
{"process":1,"type":"ok","f":"read-lists","key":1,"value":[[5],[]],"time":4}`, false, true},
		{"an id twice", `
{"process":0,"type":"invoke","f":"append","key":1,"value":{"id":5,"lists":[true,false]},"time":1}
{"process":0,"type":"ok","f":"append","key":1,"value":{"id":5,"lists":[true,false],"before":[[],[]]},"time":2}
{"process":1,"type":"invoke","f":"read-lists","key":1,"time":3}
{"process":1,"type":"ok","f":"read-lists","key":1,"value":[[5,5],[]],"time":4}`, false, true},
		{"two lists in different orders", `
{"process":0,"type":"invoke","f":"append","key":1,"value":{"id":5,"lists":[true,true]},"time":1}
{"process":1,"type":"invoke","f":"append","key":1,"value":{"id":6,"lists":[true,true]},"time":2}
{"process":0,"type":"info","f":"append","key":1,"value":{"id":5,"lists":[true,true]},"time":3}
{"process":1,"type":"info","f":"append","key":1,"value":{"id":6,"lists":[true,true]},"time":4}
{"process":2,"type":"invoke","f":"read-lists","key":1,"time":5}
{"process":2,"type":"ok","f":"read-lists","key":1,"value":[[5,6],[6,5]],"time":6}`, false, true},
	}
	for _, one := range cases {
		t.Run(one.name, func(t *testing.T) {
			all, confirmed := check(t, one.lines)
			if all != one.all || confirmed != one.confirmed {
				t.Errorf("linearizable: %v, without plain reads: %v", all, confirmed)
			}
		})
	}
}

func TestBadInput(t *testing.T) {
	for lines, message := range map[string]string{
		`{`: "line 1: unexpected end",
		`{"process":0,"type":"ok","f":"read","key":1,"time":1}`:                     `process 0: "ok" out of turn`,
		`{"process":0,"type":"invoke","f":"swap","key":1,"time":1}`:                 `there is no operation "swap"`,
		`{"process":0,"type":"invoke","f":"write","key":1,"value":"five","time":1}`: "cannot unmarshal string",
	} {
		if _, err := read(strings.NewReader(lines)); err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("%s: %v", lines, err)
		}
	}
}
