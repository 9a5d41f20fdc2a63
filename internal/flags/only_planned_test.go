package flags

import (
	"encoding/json"
	"reflect"
	"testing"

	"gopkg.in/yaml.v3"
)

// checkOnlyPlanned compares two flag files by decoding them with the libraries that flagd uses
// and taking the two fields out of both; nothing of the code under test has a part in it.
func checkOnlyPlanned(t *testing.T, name, key, before, after string) {
	t.Helper()
	var rest [2]any
	for i, text := range []string{before, after} {
		var doc map[string]any
		var err error
		if name == "f.json" {
			err = json.Unmarshal([]byte(text), &doc)
		} else {
			err = yaml.Unmarshal([]byte(text), &doc)
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		flag := doc["flags"].(map[string]any)[key].(map[string]any)
		if i == 1 && flag["defaultVariant"] != "off" {
			t.Fatalf("default is %v\n%s", flag["defaultVariant"], text)
		}
		delete(flag, "defaultVariant")
		delete(flag, "targeting")
		rest[i] = doc
	}
	if !reflect.DeepEqual(rest[0], rest[1]) {
		t.Fatalf("more than the plan changed:\n%s\nto\n%s", before, after)
	}
}

func TestCheckOnlyPlannedSeesMore(t *testing.T) {
	var spy testing.T
	done := make(chan struct{})
	go func() { // Fatalf ends the goroutine
		defer close(done)
		checkOnlyPlanned(&spy, "f.json", "x", `{"flags":{"x":{"state":"ENABLED"}}}`, `{"flags":{"x":{"state":"DISABLED","defaultVariant":"off"}}}`)
	}()
	<-done
	if !spy.Failed() {
		t.Error("a changed state was not seen")
	}
}
