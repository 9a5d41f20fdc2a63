package journal

import "time"

// A dialect is what differs between SQLite and PostgreSQL. All other SQL of this package is
// understood by both, with parameters that are written $1.
type dialect struct {
	schema       func(migration) string
	versionTable string // makes the table schema_version
	hasVersion   string // asks whether it is there
	lock         string // follows BEGIN where that does not take the write lock; "" = it does

	// patience bounds an operation, 0 = only the caller does. A server may stop answering; a
	// file does not, and what holds its lock is waited for by SQLite.
	patience time.Duration

	// reasonOf finds the reason behind an error, nil if there is none, a remedy, and words that
	// hold no credentials.
	reasonOf  func(error) (remedy string, reason, words error)
	ifDamaged string // remedy
}
