package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// unknown stands where a number cannot be had.
const unknown = "?"

// between is "before SEP after", the unit written once where both have the same.
func between(before, after Level, unit, sep string) string {
	b, bu := level(before, unit)
	a, au := level(after, unit)
	if bu == au || b == unknown || b == "0" {
		return b + sep + a + au
	}
	return b + bu + sep + a + au
}

// level is the digits and the unit of l; a value beyond the last bound of its histogram is
// "over" it.
func level(l Level, unit string) (digits, suffix string) {
	switch {
	case l.AtLeast.Known():
		digits, suffix = split(float64(l.AtLeast), unit)
		return ">" + digits, suffix
	case l.Value.Known():
		return split(float64(l.Value), unit)
	}
	return unknown, ""
}

// split is the digits of x and its unit: three digits for seconds (as ms below one second),
// two decimals in per cent for ratios, three digits for everything else.
func split(x float64, unit string) (digits, suffix string) {
	if x == 0 {
		switch unit {
		case "s":
			return "0", " ms"
		case "1":
			return "0", " %"
		}
	}
	switch unit {
	case "s":
		if math.Abs(x) < 0.9995 {
			return three(x * 1000), " ms"
		}
		return three(x), " s"
	case "1":
		if math.Abs(x) < 5e-5 {
			return strconv.FormatFloat(x*100, 'g', 2, 64), " %"
		}
		return grouped(strconv.FormatFloat(x*100, 'f', 2, 64)), " %"
	}
	return three(x), " " + unit
}

// three is x to three significant digits, written out between 0.001 and a million.
func three(x float64) string {
	a := math.Abs(x)
	switch {
	case a == 0:
		return "0"
	case a < 0.001 || a >= 1e6:
		return strconv.FormatFloat(x, 'g', 3, 64)
	}
	decimals := 2 - int(math.Floor(math.Log10(a)))
	// 9.996 has two decimals and 10.0 has one: round first, then count.
	if r := math.Pow(10, float64(decimals)); math.Round(a*r)/r >= math.Pow(10, float64(3-decimals)) {
		decimals--
	}
	return grouped(strconv.FormatFloat(x, 'f', max(0, decimals), 64))
}

// grouped puts spaces between the thousands of a number of five digits and more.
func grouped(s string) string {
	sign, rest := "", s
	if strings.HasPrefix(s, "-") {
		sign, rest = "-", s[1:]
	}
	whole, fraction, ok := strings.Cut(rest, ".")
	if len(whole) < 5 {
		return s
	}
	var parts []string
	for len(whole) > 3 {
		parts = append([]string{whole[len(whole)-3:]}, parts...)
		whole = whole[:len(whole)-3]
	}
	whole = strings.Join(append([]string{whole}, parts...), " ")
	if ok {
		whole += "." + fraction
	}
	return sign + whole
}

// count is a number of things.
func count(x Number) string {
	if !x.Known() {
		return unknown
	}
	return grouped(strconv.FormatFloat(math.Round(float64(x)), 'f', 0, 64))
}

// signed is a change in per cent without the sign of per cent: one decimal below 30 %,
// none above.
func signed(x Number) string {
	if !x.Known() {
		return unknown
	}
	p := float64(x) * 100
	switch {
	case math.Abs(p) < 0.05:
		return "0.0"
	case math.Abs(p) < 29.95:
		return fmt.Sprintf("%+.1f", p)
	case math.Abs(p) >= 1e6:
		return fmt.Sprintf("%+.1e", p)
	}
	return fmt.Sprintf("%+.0f", p)
}

// change is a change with its sign and per cent.
func change(x Number) string {
	if !x.Known() {
		return unknown
	}
	return signed(x) + " %"
}

// interval is the two ends of a 99 % interval, sep between them; an end that is open, or
// cannot be had, is left out: "at least +92 %". "" where neither is known.
func interval(ci [2]Number, sep string) string {
	switch {
	case ci[0].Known() && ci[1].Known():
		return signed(ci[0]) + sep + signed(ci[1]) + " %"
	case ci[0].Known():
		return "at least " + change(ci[0])
	case ci[1].Known():
		return "at most " + change(ci[1])
	}
	return ""
}

// share is a plain share of something in per cent.
func share(x float64) string {
	return strconv.FormatFloat(x*100, 'g', 3, 64) + " %"
}

// span is a duration for people: "15 min 20 s", "1.2 s" below ten seconds.
func span(d time.Duration) string {
	if d < 0 {
		return "-" + span(-d)
	}
	if d < 10*time.Second {
		return strconv.FormatFloat(d.Round(100*time.Millisecond).Seconds(), 'f', -1, 64) + " s"
	}
	d = d.Round(time.Second)
	var parts []string
	for _, u := range []struct {
		size time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}} {
		if n := d / u.size; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, u.name))
			d -= n * u.size
		}
	}
	return strings.Join(parts[:min(2, len(parts))], " ")
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// clock is the time of day of t, with the day where it is not the one of ref.
func clock(t, ref time.Time) string {
	t, ref = t.UTC(), ref.UTC()
	layout := "15:04:05"
	if t.Second() == 0 {
		layout = "15:04"
	}
	if t.YearDay() != ref.YearDay() || t.Year() != ref.Year() {
		layout = "2 January " + layout
	}
	return t.Format(layout)
}

// about is clock to the minute, rounded up, for what is expected.
func about(t, ref time.Time) string {
	return clock(t.Add(time.Minute-time.Nanosecond).Truncate(time.Minute), ref)
}

// day is t in full.
func day(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04:05 UTC") }
