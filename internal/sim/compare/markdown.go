package compare

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The lines between which a page holds the table. What lies between them is written by
// machine; the rest of the page is not touched.
const (
	beginMark = "<!-- compare:begin -->"
	endMark   = "<!-- compare:end -->"
)

// Markdown is the section of docs/statistics.md.
func (t *Table) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", t.Heading())
	row := func(cells []string) {
		for i := range cells {
			cells[i] = strings.ReplaceAll(cells[i], "|", "\\|")
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
	}
	table := func(columns []string, cells func(*Row) []string) {
		row(columns)
		for i := range columns {
			columns[i] = "---"
		}
		row(columns)
		for i := range t.Rows {
			c := cells(&t.Rows[i])
			if i == 0 {
				c[0] = "**" + c[0] + "**"
			}
			row(c)
		}
	}
	table(t.columns(), t.cells)
	b.WriteString(`
How to read it:

- **false alarms**, of upgrades, with 95 % interval: healthy upgrades of a service of 10 endpoints in which the judge alarmed at
  any endpoint, latency or retries. Every upgrade restarts the service, which is slow for some minutes; no
  judge sees the first 3. Intervals are Wilson's, widened by the design effect of services.
- **traffic x2.5**: the same where nothing but the traffic rose, and latency and retries as they follow load.
- **w25 … r5**: share of the affected endpoints found at the affected signal within the hour, and the median
  minute after the upgrade. w: every request slower by so many per cent; t: 2 % of them, so that the
  0.99-quantile rises by so many per cent; r: retries per request times as many.
- **early r2, early w50**: the same where the rise began 10 minutes before the upgrade, which therefore is not its cause: wrong blame.
- **power** is the mean over w25 to r5. **False alarms at equal power**: the judge's own limit (p, ratio, z) is turned, after the fact and on
  these very upgrades, to the strictest at which its mean power over the eight effects is at least
  driftwatch's; no user could turn it so well. driftwatch stays at its defaults. "Power not reached": no
  limit gets there, and the judge's own setting is shown.
- driftwatch counts as **better than a judge** if the 95 % interval, by services, of that figure less
  driftwatch's false alarms lies above 0.

The power of the other judges at their own settings is bought with the false alarms in the second column: a
judge that always alarms finds everything. The other way round, with each judge's limit turned, again in
hindsight, until it alarms in no more healthy upgrades than driftwatch does, the share found is:

`)
	table(t.quietColumns(), t.quietCells)
	fmt.Fprintf(&b, "\n%s\n\nThe judges as they were set:\n\n", t.weaknesses())
	row([]string{"judge", "as it was set", "where the numbers come from"})
	row([]string{"---", "---", "---"})
	for i := range t.Rows {
		row([]string{t.Rows[i].Name, t.Rows[i].Setting, t.Rows[i].Source})
	}
	b.WriteString("\n")
	for _, c := range t.Checks() {
		word := "failed"
		if c.Passed {
			word = "passed"
		}
		fmt.Fprintf(&b, "- %s: %s\n", word, c.Text)
	}
	passed, failed := t.Verdicts()
	fmt.Fprintf(&b, "\n%d passed, %d failed.\n", passed, failed)
	return b.String()
}

// weaknesses says where another judge finds more than driftwatch at equal false alarms, by more
// than a hundredth.
func (t *Table) weaknesses() string {
	own := &t.Rows[0]
	var found []string
	for i, effect := range t.Effects {
		var by []string
		for k := range t.Rows[1:] {
			if r := &t.Rows[k+1]; r.Quiet[i]-own.Quiet[i] > 0.01 {
				by = append(by, fmt.Sprintf("%s %.2f", r.Name, r.Quiet[i]))
			}
		}
		if len(by) > 0 {
			found = append(found, fmt.Sprintf("%s (%.2f; %s)", effect, own.Quiet[i], strings.Join(by, ", ")))
		}
	}
	if len(found) == 0 {
		return "No judge finds more of any effect then."
	}
	return "Some judge finds more than driftwatch then of: " + strings.Join(found, "; ") + "."
}

// splice puts section between the marks of page; without marks it is added at the end,
// under a heading of its own.
func splice(page, section string) (string, error) {
	begin, end := strings.Index(page, beginMark), strings.Index(page, endMark)
	switch {
	case begin < 0 && end < 0:
		if page == "" {
			page = "# Statistics\n"
		}
		return strings.TrimRight(page, "\n") + "\n\n## Compared with the judges of other tools\n\n" +
			beginMark + "\n" + section + endMark + "\n", nil
	case begin < 0 || end < begin:
		return "", fmt.Errorf("the marks %s and %s are not both there, in this order", beginMark, endMark)
	}
	return page[:begin] + beginMark + "\n" + section + page[end:], nil
}

// WriteMarkdown puts the section into the page at path, which is made if it is not there.
func (t *Table) WriteMarkdown(path string) error {
	page, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("read the page: %w", err)
	}
	text, err := splice(string(page), t.Markdown())
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	temp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	defer func() { _ = os.Remove(temp.Name()) }() // gone already if all went well
	if _, err := temp.WriteString(text); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	if err := temp.Chmod(0o644); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	if err := temp.Close(); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}
