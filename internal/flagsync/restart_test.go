//go:build !race

// The provider v0.6.0 sets a sync.Once anew when its stream breaks while another goroutine may use
// it (in_process/service.go, handleSyncEvent), so a race detector stops whatever watches a
// provider survive its server. Such tests run without one.

package flagsync

import (
	"testing"
	"time"
)

func TestRestartedServerIsFoundAgain(t *testing.T) {
	t.Parallel()
	o, _, options := overlay(t)
	r := start(t, 0, options)
	a := newApplication(t, r)
	rc := turnOff(t, o)
	a.sees(t, "off")
	r.stop()
	select {
	case <-a.stale:
	case <-time.After(time.Minute):
		t.Error("the provider does not say that it is stale")
	}
	restore(t, o, rc)
	for range 20 {
		if got := a.gets(t); got != "off" {
			t.Fatalf("no server: %s, want what it was", got)
		}
		time.Sleep(5 * time.Millisecond)
	}
	r = start(t, r.port, options)
	a.sees(t, "on")
	turnOff(t, o)
	a.sees(t, "off")
}
