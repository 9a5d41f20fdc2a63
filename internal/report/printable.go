package report

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// printable is s on one line with nothing in it that a terminal would obey: control and
// format characters (escape, line ends, direction marks) and invalid UTF-8 are written out
// as \x1b or \u202e.
func printable(s string) string {
	ok := true
	for _, c := range s {
		if c == utf8.RuneError || !unicode.IsPrint(c) {
			ok = false
			break
		}
	}
	if ok {
		return s
	}
	var b strings.Builder
	for i, c := range s {
		switch {
		case c == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsPrint(c):
			b.WriteRune(c)
		case c < 0x80:
			fmt.Fprintf(&b, `\x%02x`, c)
		case c < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			fmt.Fprintf(&b, `\U%08x`, c)
		}
	}
	return b.String()
}

// ascii is s without what a terminal of seven bits cannot show.
func ascii(s string) string {
	var b strings.Builder
	for _, c := range s {
		switch {
		case c < 0x80:
			b.WriteRune(c)
		case glyphs[c] != "":
			b.WriteString(glyphs[c])
		case c < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			fmt.Fprintf(&b, `\U%08x`, c)
		}
	}
	return b.String()
}

// glyphs are the characters that text is drawn with, and what stands for them in ASCII.
var glyphs = map[rune]string{
	'▲': "^", '◐': "?", '▼': "v", '○': ".",
	'→': "->", '…': "...", '·': ",", '—': "-", '–': "-", '×': "x",
	'●': "o", '├': "[", '┤': "]", '─': "-", '┼': "+", '┊': ":", '│': "|",
}

// columns is how many columns of a terminal s takes.
func columns(s string) int {
	n := 0
	for _, c := range s {
		n += width(c)
	}
	return n
}

// width is the columns of one character: 0 for marks that combine, 2 for the wide scripts
// and pictures of Unicode's East Asian Width (the blocks of Annex 11, not each character).
func width(c rune) int {
	switch {
	case c < 0x300:
		return 1
	case unicode.In(c, unicode.Mn, unicode.Me):
		return 0
	case c >= 0x1100 && c <= 0x115f, c >= 0x2e80 && c <= 0xa4cf, c >= 0xac00 && c <= 0xd7a3,
		c >= 0xf900 && c <= 0xfaff, c >= 0xfe30 && c <= 0xfe6f, c >= 0xff00 && c <= 0xff60,
		c >= 0xffe0 && c <= 0xffe6, c >= 0x1f300 && c <= 0x1faff, c >= 0x20000 && c <= 0x3fffd:
		return 2
	}
	return 1
}

// cut is s in at most n columns, with an ellipsis where something is left out.
func cut(s string, n int) string {
	if columns(s) <= n {
		return s
	}
	used := 0
	for i, c := range s {
		if used+width(c) > n-1 {
			return s[:i] + "…"
		}
		used += width(c)
	}
	return s
}

// middle is s in at most n columns; what is left out is in the middle, since routes differ
// at both ends.
func middle(s string, n int) string {
	if columns(s) <= n {
		return s
	}
	tail, used := len(s), 0
	for tail > 0 {
		c, size := utf8.DecodeLastRuneInString(s[:tail])
		if used+width(c) > (n-1)/2 {
			break
		}
		used += width(c)
		tail -= size
	}
	return strings.TrimSuffix(cut(s[:tail]+"…", n-used), "…") + "…" + s[tail:]
}

// pad is s with spaces behind it up to n columns.
func pad(s string, n int) string { return s + strings.Repeat(" ", max(0, n-columns(s))) }

// Quote is s as one word of a shell.
func Quote(s string) string {
	s = printable(s)
	safe := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._-/:@%+,=", c)
	}
	plain := s != "" && !strings.HasPrefix(s, "-") && !strings.ContainsFunc(s, func(c rune) bool { return !safe(c) })
	if plain {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
