// Package suggest finds the word that was probably meant by a misspelt one. It does not
// know what the words stand for.
package suggest

import "strings"

// Closest returns the candidate nearest to word, and whether one is near enough to be worth
// suggesting: at most a third of the longer word changed, rounded down, and never all of it.
// Letter case costs nothing. Of equally near ones the first in byte order is taken, so the
// order of candidates does not matter. A candidate equal to word is never suggested.
//
// A third lets "http_server_duration_seconds" find "http_server_request_duration_seconds"
// (8 of 36) and keeps "per" from being offered for "act".
func Closest(word string, candidates []string) (string, bool) {
	w := []rune(strings.ToLower(word))
	best, bestDistance := "", -1
	for _, c := range candidates {
		if c == word {
			continue
		}
		r := []rune(strings.ToLower(c))
		limit := max(len(w), len(r)) / 3
		if bestDistance >= 0 {
			limit = min(limit, bestDistance)
		}
		if max(len(w)-len(r), len(r)-len(w)) > limit {
			continue
		}
		d := distance(w, r)
		if d > limit || d >= max(len(w), len(r)) {
			continue
		}
		if bestDistance < 0 || d < bestDistance || c < best {
			best, bestDistance = c, d
		}
	}
	return best, bestDistance >= 0
}

// distance is the number of insertions, deletions, replacements and swaps of neighbours that
// turn a into b, no letter touched twice (optimal string alignment; Damerau 1964).
func distance(a, b []rune) int {
	before := make([]int, len(b)+1) // two rows up
	last := make([]int, len(b)+1)   // one row up
	row := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
