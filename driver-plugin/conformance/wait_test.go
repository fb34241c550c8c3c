// Waiting for a condition, with a bound and with the last reason why it did not hold.

package conformance

import (
	"testing"
	"time"
)

const (
	// soon bounds what takes well under a second on an idle machine.
	soon = 30 * time.Second
	// patience bounds what Nomad does by itself at its own pace, on a machine that may be busy compiling.
	patience = 2 * time.Minute
	// look is how often a condition is looked at.
	look = 100 * time.Millisecond
)

// eventually waits until a condition holds, that is, until it returns no error.
func eventually(t testing.TB, within time.Duration, what string, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for this to hold: %s; the last look says: %v", within, what, err)
		}
		time.Sleep(look)
	}
}

// receive takes one value from a channel that must deliver within the bound.
func receive[T any](t testing.TB, within time.Duration, what string, from <-chan T) T {
	t.Helper()
	select {
	case value, open := <-from:
		if !open {
			t.Fatalf("the stream ended instead of giving %s", what)
		}
		return value
	case <-time.After(within):
		t.Fatalf("waited %v in vain for %s", within, what)
	}
	panic("unreachable")
}
