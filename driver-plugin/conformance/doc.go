// Package conformance tests the driver against Nomad's own published packages: its plugin loader, its driver client with
// the conformance suite of `alloc exec`, and a real agent in a process of its own. It has no code but tests.
package conformance
