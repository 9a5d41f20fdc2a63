package calibrate

import (
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// Titles are the headings of the tables.
var titles = map[string]string{
	"S0": "False alarms of single tests", "S1": "Families of 200 endpoints", "S2": "Traffic jumps", "S3": "A daily job",
	"S4": "Spiky services", "S5": "What was there before", "S6": "What is found", "S7": "What is found among 200",
	"S8": "Intervals of retries", "S9": "Hardly any traffic", "S10": "The same again", "S11": "Cost",
	"S12": "A slow warm-up", "intervals": "99 % intervals in the signal's own unit", "recovery": "Recovery",
	"robust": "When measuring goes wrong",
}

// number is x in the unit, scaled.
func number(x float64, unit string) string {
	switch {
	case math.IsNaN(x):
		return "–"
	case unit == "%":
		return fmt.Sprintf("%.2f", 100*x)
	case unit == "ms" || unit == "µs" || unit == "s":
		return fmt.Sprintf("%.3g", x)
	}
	return fmt.Sprintf("%.4g", x)
}

// Write writes the rows as Markdown tables, one per bar.
func Write(w io.Writer, rows []Row) error {
	var b strings.Builder
	bar := ""
	for _, r := range rows {
		if r.Bar != bar {
			bar = r.Bar
			fmt.Fprintf(&b, "\n#### %s: %s\n\n| figure | measured | 95 %% interval | of | bar | |\n|---|---|---|---|---|---|\n", bar, titles[bar])
		}
		measured, interval := "–", "–"
		if r.State != NotRun {
			measured = number(r.Value, r.Unit) + spaced(r.Unit)
			interval = number(r.Low, r.Unit) + " to " + number(r.High, r.Unit)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", r.Figure, measured, interval, r.Of, r.Limit, r.State)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Count is how many rows are in a state.
func Count(rows []Row, s State) int {
	n := 0
	for _, r := range rows {
		if r.State == s {
			n++
		}
	}
	return n
}

// The marks in a document that tables are written between.
const (
	begin = "<!-- calibrate:begin -->"
	end   = "<!-- calibrate:end -->"
)

// Document replaces what stands between the marks of the file at path with text. Where there
// are no marks they are added at the end, where there is no file it is made. One mark without the
// other is an error.
func Document(path, text string) error {
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	if !strings.Contains(string(b), begin) && !strings.Contains(string(b), end) {
		if len(b) > 0 {
			b = append(b, '\n')
		}
		b = append(b, begin+"\n"+end+"\n"...)
	}
	before, rest, ok := strings.Cut(string(b), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has one of %s and %s without the other after it", path, begin, end)
	}
	whole := before + begin + "\n" + strings.Trim(text, "\n") + "\n" + end + after
	temp, err := os.CreateTemp(filepath.Dir(path), ".statistics-*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	if _, err := temp.WriteString(whole); err != nil {
		temp.Close()
		return err
	}
	if err := temp.Chmod(0o644); err != nil {
		temp.Close()
		return err
	}
	if err := temp.Close(); err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}
