package report

import (
	"fmt"
	"strings"
)

// maxMarkdown is how long a comment may get: the usual hosts cut or refuse from 65,536
// characters on, and what is cut in the middle of a table is no table.
const maxMarkdown = 60_000

// Rows of a group that stand in the table of a comment, and in one of its folds.
const (
	markdownRows = 20
	markdownFold = 50
)

// Markdown is r for a comment on a pull request: the verdict, what regressed or may have, and
// the rest in folds. The first line names the service, so that whoever posts it finds the
// comment again and edits it in place. Everything from the data is escaped: a label can neither
// mention anybody, nor link, nor end a table.
func Markdown(r *Report) string {
	v := NewView(r)
	var b strings.Builder
	fmt.Fprintf(&b, "<!-- driftwatch:report %s -->\n", comment(r.Service))
	var words []string
	for i, badge := range v.Badges {
		if i > 0 {
			badge.Text = lower(badge.Text)
		}
		words = append(words, badge.Text)
	}
	fmt.Fprintf(&b, "### %s %s · %s\n\n", glyph(r.Verdict), markdownText(strings.Join(words, ", ")), markdownText(v.Subject))
	fmt.Fprintf(&b, "**%s**\n\n", markdownText(v.Headline))
	for _, said := range v.Said {
		fmt.Fprintf(&b, "%s\n\n", markdownText(said.Text))
	}
	if len(v.Lede) > 0 {
		fmt.Fprintf(&b, "%s\n\n", markdownText(strings.Join(v.Lede, " ")))
	}
	if len(v.Urgent) > 0 {
		b.WriteString(fenced(v.Urgent...))
	}
	if r.Verdict == Regressed && len(v.Urgent) == 0 {
		var done []string
		for _, a := range r.actionsLast() {
			done = append(done, r.actionText(a))
		}
		if len(r.Actions) == 0 {
			done = append(done, "No action was taken.")
		}
		if t := r.recoveryText(); t != "" {
			done = append(done, t)
		}
		fmt.Fprintf(&b, "%s\n\n", markdownText(strings.Join(done, " ")))
	}

	var main, folded []Group
	for _, g := range v.Groups {
		switch g.Verdict {
		case NoMeaningfulRise, NotEnoughData, CouldNotCheck:
			folded = append(folded, g)
			continue
		}
		if len(g.Rows) > markdownRows {
			rest := g
			rest.Rows = g.Rows[markdownRows:]
			rest.Title = "More: " + strings.ToLower(g.Title)
			g.Rows = g.Rows[:markdownRows]
			folded = append(folded, rest)
		}
		main = append(main, g)
	}
	if len(main) > 0 {
		b.WriteString(markdownHead)
		for _, g := range main {
			for _, row := range g.Rows {
				b.WriteString(markdownRow(row))
			}
		}
		b.WriteString("\n")
	}
	if len(v.For)+len(v.Against)+len(v.Open) > 0 {
		b.WriteString("<details><summary>What speaks for it, against it, and what is not ruled out</summary>\n\n")
		for _, list := range []struct {
			name  string
			lines []Reason
		}{{"For", v.For}, {"Against", v.Against}, {"Not ruled out", v.Open}} {
			for _, s := range list.lines {
				fmt.Fprintf(&b, "- %s: %s\n", list.name, markdownText(s.Text))
			}
		}
		b.WriteString("\n</details>\n\n")
	}
	tail := markdownTail(v)
	for _, g := range folded {
		var rows strings.Builder
		shown := 0
		for _, row := range g.Rows[:min(markdownFold, len(g.Rows))] {
			line := markdownRow(row)
			if b.Len()+rows.Len()+len(line)+len(tail)+600*len(folded) > maxMarkdown {
				break
			}
			rows.WriteString(line)
			shown++
		}
		fmt.Fprintf(&b, "<details><summary>%s %d: %s</summary>\n\n", glyph(g.Verdict), len(g.Rows), markdownText(strings.ToLower(g.Title)))
		if shown > 0 {
			b.WriteString(markdownHead + rows.String() + "\n")
		}
		if n := len(g.Rows) - shown; n > 0 {
			fmt.Fprintf(&b, "%d more are in the report.\n\n", n)
		}
		b.WriteString("</details>\n\n")
	}
	b.WriteString(tail)
	return b.String()
}

const markdownHead = "| | Endpoint | Signal | Before → after | Change | 99 % interval |\n| --- | --- | --- | ---: | ---: | ---: |\n"

func markdownRow(row Row) string {
	interval := row.Interval
	if interval == "" {
		interval = row.Note
	}
	return fmt.Sprintf("| %s %s | %s | %s | %s | %s | %s |\n", glyph(row.Verdict), markdownText(row.Word), markdownCode(middle(row.Endpoint, 100)),
		markdownText(row.Signal), markdownText(row.Values), markdownText(row.Change), markdownText(interval))
}

// markdownTail is what comes last: warnings, the next step, and where the report is.
func markdownTail(v *View) string {
	var b strings.Builder
	if len(v.Warnings) > 0 {
		fmt.Fprintf(&b, "<details><summary>%d %s</summary>\n\n", len(v.Warnings), plural(len(v.Warnings), "warning", "warnings"))
		for _, w := range v.Warnings[:min(20, len(v.Warnings))] {
			fmt.Fprintf(&b, "- %s\n", markdownText(w))
		}
		b.WriteString("\n</details>\n\n")
	}
	if v.Next.Line != "nothing to do" {
		note := ""
		if v.Next.Text != "" {
			note = " (" + markdownText(v.Next.Text) + ")"
		}
		b.WriteString("Next" + note + ":\n\n" + fenced(v.Next.Line))
	}
	fmt.Fprintf(&b, "<sub>Report %s. Times are UTC. Not judged is not a pass.</sub>\n", markdownCode(cut(printable(v.r.ID), 120)))
	return b.String()
}

// fenced is commands in a block of code that they cannot end.
func fenced(lines ...string) string {
	body := strings.Join(lines, "\n")
	fence := "```"
	for strings.Contains(body, fence) {
		fence += "`"
	}
	return fence + "sh\n" + body + "\n" + fence + "\n\n"
}

// markdownMarks are all characters that mean something to Markdown or HTML, or begin a mention,
// a reference or a link, as entities. Digits, signs and per cent stay as they are.
var markdownMarks = strings.NewReplacer(
	"&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;", "|", "&#124;", "`", "&#96;", "*", "&#42;", "_", "&#95;",
	"[", "&#91;", "]", "&#93;", "#", "&#35;", "@", "&#64;", "~", "&#126;", `\`, "&#92;", "!", "&#33;", "$", "&#36;",
	"://", "&#58;//", "www.", "www&#46;", "mailto:", "mailto&#58;", "\n", " ", "\r", " ",
)

func markdownText(s string) string { return markdownMarks.Replace(s) }

// markdownCode is a name as code. The element is used and not backticks, which cannot be
// escaped and end at the first one in the name.
func markdownCode(s string) string { return "<code>" + markdownText(s) + "</code>" }

// comment is s as an HTML comment can hold it.
func comment(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '/' {
			return c
		}
		return '-'
	}, strings.ReplaceAll(cut(s, 80), "--", "-"))
}
