// Package conformance tests the driver with Nomad's own published packages: the plugin loader, the driver client with
// the conformance suite of `alloc exec`, and a real agent in its own process. It consists of tests only.
package conformance
