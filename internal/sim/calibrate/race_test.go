//go:build race

package calibrate

// raceEnabled: the race detector makes the simulation ten times slower, and finds in three
// bars what it finds in all of them: two workers share nothing but the record.
const raceEnabled = true
