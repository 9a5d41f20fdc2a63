package report

import (
	_ "embed"
	"slices"
)

//go:embed report.schema.json
var schema []byte

// Schema is the JSON Schema (2020-12) of driftwatch.report/v1.
func Schema() []byte { return slices.Clone(schema) }
