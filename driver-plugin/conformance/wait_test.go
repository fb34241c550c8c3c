// Bounded waiting for conditions.

package conformance

import (
	"testing"
	"time"
)

const (
	// soon bounds what takes well under a second on an idle machine.
	soon = 30 * time.Second
	// patience bounds what Nomad does at its own pace, on a busy machine.
	patience = 2 * time.Minute
	// poll is the interval at which a condition is checked.
	poll = 100 * time.Millisecond
)

// eventually waits until a condition returns no error.
func eventually(t testing.TB, within time.Duration, what string, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for this to hold: %s; the last error: %v", within, what, err)
		}
		time.Sleep(poll)
	}
}

// receive takes a value from a channel within a bound.
func receive[T any](t testing.TB, within time.Duration, what string, from <-chan T) T {
	t.Helper()
	select {
	case value, open := <-from:
		if !open {
			t.Fatalf("the stream ended without %s", what)
		}
		return value
	case <-time.After(within):
		t.Fatalf("waited %v in vain for %s", within, what)
	}
	panic("unreachable")
}
