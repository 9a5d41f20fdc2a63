package baseline

import "math"

const (
	logBits    = 7 // of the mantissa that choose a row of logTable
	mantissa   = 52
	bias       = 1023
	leastPlain = 0x1p-1022 // below, numbers are denormal
)

// logTable holds, for the 128 parts of [1, 2), a number near 1/x and minus its logarithm.
var logTable = func() (t [1 << logBits]struct{ inverse, log float64 }) {
	for i := range t {
		t[i].inverse = 1 / (1 + (float64(i)+0.5)/(1<<logBits))
		t[i].log = -math.Log(t[i].inverse)
	}
	return t
}()

// logOf is math.Log to 1e-15, or to 1e-15 of it where that is more, in a third of its time: a
// calibration takes 40,000 logarithms, which were 28 % of its cost. x 2^-e (1/x of the table) is
// within 1/256 of 1, where six terms of the series are enough. (Tang 1990.)
func logOf(x float64) float64 {
	if !(x >= leastPlain && x <= math.MaxFloat64) {
		return math.Log(x)
	}
	bits := math.Float64bits(x)
	e := int(bits>>mantissa) - bias
	row := &logTable[bits>>(mantissa-logBits)&(1<<logBits-1)]
	m := math.Float64frombits(bits&(1<<mantissa-1) | bias<<mantissa)
	r := m*row.inverse - 1
	return float64(e)*math.Ln2 + (row.log + r*(1+r*(-1./2+r*(1./3+r*(-1./4+r*(1./5-r*(1./6)))))))
}
