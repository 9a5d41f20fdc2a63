package report

import "testing"

// What driftwatch reads back where it wrote is not what the application sees.
func TestVerifiedWords(t *testing.T) {
	for viewpoint, want := range map[Word]string{
		"file": "verified off in the file", "kubernetes": "verified off in the object",
		"ofrep": "verified off", "rpc": "verified off", "exposure": "verified off",
	} {
		if got := verifiedWords(Action{Viewpoint: viewpoint}); got != want {
			t.Errorf("seen at %s: %q, want %q", viewpoint, got, want)
		}
	}
}
