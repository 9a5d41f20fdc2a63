package stat

import "math"

// A Trimmed is a TrimmedMean that is kept while its window grows: adding one value costs the
// moves that keep the values in order and no new sum. The zero value is empty and trims
// nothing. It must not be given NaN or an infinity.
type Trimmed struct {
	trim   float64
	sorted []float64
	cut    int     // values left out at each end
	sum    float64 // of the others
}

// NewTrimmed returns an empty window whose mean is TrimmedMean(x, trim). It panics if trim is
// not in [0, 0.5).
func NewTrimmed(trim float64) Trimmed {
	checkTrim(trim)
	return Trimmed{trim: trim}
}

// Reset empties t and keeps its memory.
func (t *Trimmed) Reset() { t.sorted, t.cut, t.sum = t.sorted[:0], 0, 0 }

// Len is how many values t holds.
func (t *Trimmed) Len() int { return len(t.sorted) }

// Add puts v into t.
func (t *Trimmed) Add(v float64) {
	t.sorted = append(t.sorted, v) // in place: to hand the slice around costs a write barrier
	settle(t.sorted)
	x := t.sorted
	m, k := len(x), t.cut
	// With as many left out as before, the kept ones gain v, or the one that v pushed in.
	t.sum += min(max(v, x[k]), x[m-1-k])
	if cut := trimmedAt(t.trim, m); cut > k {
		t.sum -= x[k] + x[m-1-k]
		t.cut = cut
	}
}

// Mean is the trimmed mean of the values in t, NaN if there are none.
func (t *Trimmed) Mean() float64 {
	if len(t.sorted) == 0 {
		return math.NaN()
	}
	return t.sum / float64(len(t.sorted)-2*t.cut)
}

// settle moves the last value of x to its place among the others, which are in ascending
// order. Going down from the end beats a binary search and a copy on the 60 values of a window.
func settle(x []float64) {
	i := len(x) - 1
	v := x[i]
	for ; i > 0 && x[i-1] > v; i-- {
		x[i] = x[i-1]
	}
	x[i] = v
}

func checkTrim(trim float64) {
	if !(trim >= 0 && trim < 0.5) {
		panic("stat: trim must be in [0, 0.5)")
	}
}

// trimmedAt is how many of m values a trimmed mean leaves out at each end.
func trimmedAt(trim float64, m int) int {
	k := int(trim * float64(m))
	if k == 0 && trim > 0 && m >= 3 {
		k = 1
	}
	return k
}
