// Package deps pins modules while rooms are being built; it goes away before the first release.
package deps

import (
	_ "github.com/klauspost/compress/snappy"
	_ "github.com/open-feature/go-sdk-contrib/providers/flagd/pkg"
	_ "github.com/open-feature/go-sdk-contrib/providers/ofrep"
	_ "github.com/open-feature/go-sdk/openfeature/isolated"
	_ "github.com/prometheus/client_golang/api/prometheus/v1"
	_ "github.com/prometheus/common/config"
	_ "github.com/prometheus/common/model"
	_ "github.com/prometheus/prometheus/promql/parser"
	_ "github.com/prometheus/prometheus/tsdb/chunkenc"
	_ "github.com/rogpeppe/go-internal/testscript"
	_ "github.com/spf13/cobra"
	_ "go.yaml.in/yaml/v3"
	_ "golang.org/x/tools/go/packages"
	_ "gonum.org/v1/gonum/stat"
	_ "gonum.org/v1/gonum/stat/distuv"
	_ "modernc.org/sqlite"
)
