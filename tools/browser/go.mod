// This module holds no Go: it keeps what npm brings, which may, out of ./... of the one above.
module github.com/driftwatch/driftwatch/tools/browser

go 1.26.0
