// The plugin with Nomad's loader: start, description, settings, end.

package conformance

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/hashicorp/nomad/plugins/drivers/fsisolation"
)

const (
	// killLimit bounds the end of the plugin. go-plugin waits 2 s and then sends SIGKILL.
	killLimit = 500 * time.Millisecond
	// killTries: the best of them counts, because a busy machine may delay any of them.
	killTries = 3
	// openFor is how long a stream is watched that must not end.
	openFor = 3 * time.Second
)

func TestTheLoaderAcceptsThePlugin(t *testing.T) {
	h := newHost(t)
	found := h.loader.Catalog()[base.PluginTypeDriver]
	if len(found) != 1 {
		t.Fatalf("the catalog holds %d drivers", len(found))
	}
	if found[0].Name != driverName {
		t.Errorf("the driver calls itself %q", found[0].Name)
	}
	if found[0].PluginVersion == "" {
		t.Error("the driver has no version")
	}
	if version := h.instance.ApiVersion(); version != drivers.ApiVersion010 {
		t.Errorf("the plugin's API version is %q", version)
	}
}

func TestThePluginBlockMayBeEmpty(t *testing.T) {
	if _, err := load(pluginDirectory(t, scratch(t)), nil); err != nil {
		t.Fatal(err)
	}
}

func TestFaultsInThePluginBlockAreNamed(t *testing.T) {
	for _, fault := range []struct {
		name     string
		settings map[string]any
		said     []string
	}{
		{"unknown key", map[string]any{"state_dirr": "/run/x"}, []string{"state_dirr"}},
		{"bad duration", map[string]any{"keep_listening": "soon"}, []string{"keep_listening", "soon"}},
		{"relative directory", map[string]any{"state_dir": "run"}, []string{"state_dir", "run"}},
	} {
		t.Run(fault.name, func(t *testing.T) {
			_, err := load(pluginDirectory(t, scratch(t)), fault.settings)
			if err == nil {
				t.Fatal("accepted")
			}
			mustSay(t, err.Error(), fault.said...)
		})
	}
}

func TestCapabilities(t *testing.T) {
	h := newHost(t)
	told, err := h.driver.Capabilities()
	if err != nil {
		t.Fatal(err)
	}
	if !told.SendSignals || !told.Exec {
		t.Errorf("signals %v, exec %v", told.SendSignals, told.Exec)
	}
	if told.FSIsolation != fsisolation.None {
		t.Errorf("file system isolation %q", told.FSIsolation)
	}
	if told.MountConfigs != drivers.MountConfigSupportNone {
		t.Errorf("support for mounts: %v", told.MountConfigs)
	}
	if len(told.NetIsolationModes) != 1 || told.NetIsolationModes[0] != drivers.NetIsolationModeHost {
		t.Errorf("network isolation modes %v", told.NetIsolationModes)
	}
	if told.MustInitiateNetwork || told.DisableLogCollection || told.DynamicWorkloadUsers {
		t.Errorf("unsupported capabilities: %+v", told)
	}
}

func TestFingerprint(t *testing.T) {
	h := newHost(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := h.driver.Fingerprint(ctx)
	if err != nil {
		t.Fatal(err)
	}
	first := receive(t, soon, "a fingerprint", stream)
	if first.Err != nil {
		t.Fatal(first.Err)
	}
	if first.Health != drivers.HealthStateHealthy {
		t.Errorf("%v: %s", first.Health, first.HealthDescription)
	}
	for key := range first.Attributes {
		if !strings.HasPrefix(key, "driver."+driverName) {
			t.Errorf("the attribute %q does not belong to this driver", key)
		}
	}
	version, told := first.Attributes["driver."+driverName+".version"]
	if text, _ := version.GetString(); !told || text == "" {
		t.Errorf("no version among the attributes %v", first.Attributes)
	}
	mustStayOpen(t, stream)
}

func TestTaskEventsStayOpen(t *testing.T) {
	h := newHost(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := h.driver.TaskEvents(ctx)
	if err != nil {
		t.Fatal(err)
	}
	mustStayOpen(t, stream)
}

func TestKillIsQuick(t *testing.T) {
	h := newHost(t)
	best := time.Hour
	for range killTries {
		began := time.Now()
		h.instance.Kill()
		best = min(best, time.Since(began))
		if left := driverProcesses(h.executable()); len(left) != 0 {
			t.Fatalf("still there after Kill: %v", left)
		}
		h.dispense()
	}
	t.Logf("ended within %v", best)
	if best > killLimit {
		t.Errorf("the quickest of %d ends took %v, more than %v", killTries, best, killLimit)
	}
}

// mustStayOpen fails when a stream ends.
func mustStayOpen[T any](t *testing.T, stream <-chan T) {
	t.Helper()
	end := time.After(openFor)
	for {
		select {
		case _, open := <-stream:
			if !open {
				t.Fatal("the stream has ended; Nomad would open it again in a loop")
			}
		case <-end:
			return
		}
	}
}

// mustSay fails unless the text contains all parts.
func mustSay(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is missing in: %s", part, text)
		}
	}
}
