package report

import (
	"encoding/xml"
	"fmt"
	"strings"
)

type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Skipped  int          `xml:"skipped,attr"`
	Time     string       `xml:"time,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name       string          `xml:"name,attr"`
	Tests      int             `xml:"tests,attr"`
	Failures   int             `xml:"failures,attr"`
	Errors     int             `xml:"errors,attr"`
	Skipped    int             `xml:"skipped,attr"`
	Timestamp  string          `xml:"timestamp,attr"`
	Properties []junitProperty `xml:"properties>property,omitempty"`
	Cases      []junitCase     `xml:"testcase"`
}

type junitProperty struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type junitCase struct {
	Name      string       `xml:"name,attr"`
	Classname string       `xml:"classname,attr"`
	Time      string       `xml:"time,attr"`
	Failure   *junitResult `xml:"failure"`
	Error     *junitResult `xml:"error"`
	Skipped   *junitResult `xml:"skipped"`
	Output    string       `xml:"system-out,omitempty"`
}

type junitResult struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

// JUnit is r for a CI: a suite per signal and a case per comparison. What regressed has failed,
// what could not be checked is an error, and what was not judged either way is skipped: a suite
// is never green for lack of data. A report without comparisons is one case that says why.
func JUnit(r *Report) []byte {
	v := NewView(r)
	out := junitSuites{Name: "driftwatch " + v.Subject, Time: fmt.Sprintf("%.3f", r.Stats.TotalS)}
	at := r.Now.UTC().Format("2006-01-02T15:04:05")
	properties := []junitProperty{
		{"report", printable(r.ID)}, {"verdict", string(r.Verdict)}, {"exit_code", fmt.Sprint(r.ExitCode)}, {"status", v.Title},
	}
	index := map[string]int{}
	for _, row := range v.Rows {
		i, ok := index[row.Signal]
		if !ok {
			i = len(out.Suites)
			index[row.Signal] = i
			out.Suites = append(out.Suites, junitSuite{Name: row.Signal, Timestamp: at, Properties: properties})
		}
		out.Suites[i].Cases = append(out.Suites[i].Cases, v.junitCase(row))
	}
	if len(v.Rows) == 0 {
		c := junitCase{Name: verdictWords(r), Classname: v.Service, Time: "0"}
		result := &junitResult{Message: v.Headline, Type: string(r.Verdict), Text: strings.Join(v.Lede, "\n")}
		if r.Verdict == CouldNotCheck {
			c.Error = result
		} else {
			c.Skipped = result
		}
		out.Suites = append(out.Suites, junitSuite{Name: v.Service, Timestamp: at, Properties: properties, Cases: []junitCase{c}})
	}
	for i := range out.Suites {
		s := &out.Suites[i]
		for _, c := range s.Cases {
			s.Tests++
			switch {
			case c.Failure != nil:
				s.Failures++
			case c.Error != nil:
				s.Errors++
			case c.Skipped != nil:
				s.Skipped++
			}
		}
		out.Tests, out.Failures, out.Errors, out.Skipped = out.Tests+s.Tests, out.Failures+s.Failures, out.Errors+s.Errors, out.Skipped+s.Skipped
	}
	body, err := xml.MarshalIndent(out, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("report: junit: %v", err)) // strings and numbers marshal, whatever they hold
	}
	return append([]byte(xml.Header), append(body, '\n')...)
}

func (v *View) junitCase(row Row) junitCase {
	out := junitCase{Name: middle(row.Endpoint, 200), Classname: v.Service + "." + row.Signal, Time: "0"}
	numbers := row.Values + ", " + row.Change
	if row.Interval != "" {
		numbers += ", 99 % interval " + row.Interval
	}
	result := &junitResult{Message: row.Word + ": " + numbers, Type: string(row.Verdict)}
	switch row.Verdict {
	case Regressed:
		result.Text = sentence(v.r.moved(row.c))
		for _, a := range v.r.actionsLast() {
			if a.Flag == row.c.Flag {
				result.Text += "\n" + v.r.actionText(a)
			}
		}
		out.Failure = result
	case CouldNotCheck:
		result.Message, result.Text = row.Word, row.Note
		out.Error = result
	case NotEnoughData:
		result.Message = row.Word + ": " + row.Note
		out.Skipped = result
	case Undecided, PreExisting, Transient:
		out.Skipped = result
	default:
		out.Output = numbers
	}
	return out
}
