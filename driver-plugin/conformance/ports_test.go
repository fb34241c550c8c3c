// Free ports for listeners of the tests.

package conformance

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
)

// These ports are outside of the ranges for outgoing connections (from 32768) and for Nomad's dynamic ports (from
// 20000), so that no other program takes one between its choice and its use.
const (
	firstPort    = 10000
	portCount    = 10000
	maxPortTries = 1000
)

// nextPort starts at random, so that two runs on one machine rarely choose the same port.
var nextPort = func() *atomic.Int64 {
	next := new(atomic.Int64)
	next.Store(rand.Int64N(portCount))
	return next
}()

// freePort returns a loopback port on which nothing listens, and never the same one twice.
func freePort(t testing.TB) int {
	t.Helper()
	for range maxPortTries {
		port := firstPort + int(nextPort.Add(1)%portCount)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = listener.Close()
			return port
		}
	}
	t.Fatalf("no free port between %d and %d", firstPort, firstPort+portCount)
	return 0
}

// occupy listens on an address until the end of the test, without sharing it.
func occupy(t *testing.T, address string) string {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return address
}
