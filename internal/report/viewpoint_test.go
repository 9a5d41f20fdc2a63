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
	disabled := Action{Kind: FlagDisabled, Viewpoint: "kubernetes"}
	if got, want := verifiedWords(disabled), "verified in the object: it falls back to the code default"; got != want {
		t.Errorf("disabled: %q, want %q", got, want)
	}
}
