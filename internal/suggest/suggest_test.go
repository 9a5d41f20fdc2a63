package suggest

import "testing"

func TestClosest(t *testing.T) {
	fields := []string{"percentile", "ratio", "window", "minimum_effect"}
	tests := []struct {
		name       string
		word       string
		candidates []string
		want       string
		ok         bool
	}{
		{"a letter forgotten", "percentle", fields, "percentile", true},
		{"two letters swapped", "raito", fields, "ratio", true},
		{"letter case", "Minimum_Effect", fields, "minimum_effect", true},
		{
			"a word of a metric forgotten", "http_server_duration_seconds",
			[]string{"go_goroutines", "http_server_request_duration_seconds"},
			"http_server_request_duration_seconds", true,
		},
		{"nothing near", "colour", fields, "", false},
		{"short words differ in all letters", "act", []string{"per"}, "", false},
		{"the word itself is no suggestion", "ratio", []string{"ratio"}, "", false},
		{"equally near: first in byte order", "cat", []string{"rat", "bat", "hat"}, "bat", true},
		{"nothing to choose from", "ratio", nil, "", false},
		{"an empty word", "", fields, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, ok := Closest(tt.word, tt.candidates); got != tt.want || ok != tt.ok {
				t.Errorf("Closest(%q) = %q, %v, want %q, %v", tt.word, got, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestDistance(t *testing.T) {
	tests := []struct {
		a, b string
		want int
	}{
		{"kitten", "sitting", 3}, // Wagner and Fischer's example
		{"ca", "abc", 3},         // optimal string alignment; the unrestricted distance is 2
		{"ab", "ba", 1},
		{"", "abc", 3},
		{"größe", "groesse", 4}, // ö->o, e added; ß->s, s added: by hand
	}
	for _, tt := range tests {
		if got := distance([]rune(tt.a), []rune(tt.b)); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
		if got := distance([]rune(tt.b), []rune(tt.a)); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.b, tt.a, got, tt.want)
		}
	}
}
