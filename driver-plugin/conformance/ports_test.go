// Free ports for listeners of the tests.

package conformance

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
)

// The ports taken are outside the kernel's range for outgoing connections (from 32768) and Nomad's for dynamic ports
// (from 20000), so that nobody else takes one by accident between its choice and its use.
const (
	firstPort    = 10000
	portCount    = 10000
	maxPortTries = 1000
)

// nextPort starts anywhere, so that two runs on one machine seldom meet.
var nextPort = func() *atomic.Int64 {
	next := new(atomic.Int64)
	next.Store(rand.Int64N(portCount))
	return next
}()

// freePort gives a loopback port that nothing listens on, and never the same one twice.
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

// occupy listens on an address for the length of the test, without sharing it.
func occupy(t *testing.T, address string) string {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return address
}
