package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// Pictures are the numbers that a report draws: all buckets of the rows that regressed or may
// have, step by step, and the exposure of the flags. They are read after the verdict, kept
// beside the record, and judge nothing: a report without them says the same.
type Pictures struct {
	Start    Time              `json:"start"`  // of the first column
	StepS    float64           `json:"step_s"` // a column is a whole number of the rule's steps
	Columns  int               `json:"columns"`
	Rows     []Picture         `json:"rows"`
	Exposure []ExposurePicture `json:"exposure"`
	Left     int               `json:"left,omitempty"`  // endpoints beyond those that fit
	Notes    []string          `json:"notes,omitempty"` // what could not be read, and why
}

// A Picture is one signal of one endpoint over the columns.
type Picture struct {
	Endpoint []string `json:"endpoint"` // values of the endpoint labels, as in Comparison.Labels
	Signal   string   `json:"signal"`
	Kind     string   `json:"kind"` // histogram | ratio | gauge
	Quantile Number   `json:"quantile"`

	Bounds      []float64 `json:"bounds,omitempty"`      // of a histogram: the finite ones, seconds, ascending; shape (B)
	Exponential bool      `json:"exponential,omitempty"` // buckets of a native histogram

	// Values are, of a histogram, the requests at most as slow as each bound, and last all of
	// them, shape (B+1, columns); of a ratio events and requests; of a gauge its level. NaN is a
	// column in which something is missing.
	Values []telemetry.Values `json:"values"`

	Tail  float64 `json:"tail,omitempty"` // the bound that the tail is counted from, seconds
	Bands []Band  `json:"bands"`          // empty without history
	Expr  string  `json:"expr"`           // PromQL of what is drawn, for a person to look at
}

// A Band is where the middle 95 % of stretches as long as some columns lay in the history
// before the baseline: the share of requests slower than Tail, the ratio, or the level.
type Band struct {
	Columns   int     `json:"columns"` // one of Merges
	Low       float64 `json:"low"`
	High      float64 `json:"high"`
	Stretches int     `json:"stretches"`
}

// Merges are how many columns are drawn as one: where a column holds few requests, its
// 0.99-quantile says more about chance than about the service.
var Merges = []int{1, 2, 3, 5, 10}

// An ExposurePicture is the share of requests that met a flag's suspect variant.
type ExposurePicture struct {
	Flag   string           `json:"flag"`
	Expr   string           `json:"expr"`
	Values telemetry.Values `json:"values"` // 0 to 1, at the end of every column
}

// MaxPictureColumns is into how many columns baseline and watch are cut at most. 120 keep the
// minutes of a baseline and a horizon of an hour; more than that is finer than a phone shows.
const MaxPictureColumns = 120

// MaxPictureEndpoints is how many endpoints are drawn at most, the worst first. A dozen cards
// are more than anybody reads; a regression of a whole service has hundreds of rows, and reading
// all buckets of each costs the server what the check itself took care not to.
const MaxPictureEndpoints = 12

// JSON is p for the journal; the same pictures give the same bytes.
func (p *Pictures) JSON() ([]byte, error) { return json.Marshal(p) }

// ParsePictures reads what JSON wrote. It fails on what does not hold together, so that what
// draws need not look again.
func ParsePictures(b []byte) (*Pictures, error) {
	var p Pictures
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(&p); err != nil {
		return nil, fmt.Errorf("parse pictures: %w", err)
	}
	if p.Columns < 0 || p.Columns > MaxPictureColumns || !(p.StepS > 0) {
		return nil, fmt.Errorf("parse pictures: %d columns of %v s", p.Columns, p.StepS)
	}
	for _, row := range p.Rows {
		want := map[string]int{"histogram": len(row.Bounds) + 1, "ratio": 2, "gauge": 1}[row.Kind]
		if want == 0 || len(row.Values) != want {
			return nil, fmt.Errorf("parse pictures: %s %s has %d rows of values", row.Kind, row.Signal, len(row.Values))
		}
		if row.Kind == "histogram" && (len(row.Bounds) == 0 || !slices.IsSorted(row.Bounds)) {
			return nil, fmt.Errorf("parse pictures: %s has %d bounds, which do not ascend", row.Signal, len(row.Bounds))
		}
		for _, v := range row.Values {
			if len(v) != p.Columns {
				return nil, fmt.Errorf("parse pictures: %s has %d values in %d columns", row.Signal, len(v), p.Columns)
			}
		}
	}
	for _, x := range p.Exposure {
		if len(x.Values) != p.Columns {
			return nil, fmt.Errorf("parse pictures: exposure of %s has %d values in %d columns", x.Flag, len(x.Values), p.Columns)
		}
	}
	return &p, nil
}

// end is the end of column i.
func (p *Pictures) end(i int) time.Time {
	return p.Start.Add(time.Duration(float64(i+1) * p.StepS * float64(time.Second)))
}

// of is the picture of a signal of an endpoint; nil if there is none.
func (p *Pictures) of(labels Labels, signal string) *Picture {
	if p == nil {
		return nil
	}
	for i := range p.Rows {
		row := &p.Rows[i]
		if row.Signal != signal || len(row.Endpoint) != len(labels) {
			continue
		}
		same := true
		for j, l := range labels {
			same = same && row.Endpoint[j] == l.Value
		}
		if same {
			return row
		}
	}
	return nil
}
