package flags

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
)

// A writer makes flag files in every style that people write them in.
type writer struct {
	*rand.Rand
	strings.Builder
}

func (w *writer) pick(of ...string) string { return of[w.IntN(len(of))] }

func (w *writer) quoted(s string, yaml bool) string {
	b, _ := json.Marshal(s)
	if !yaml {
		return string(b)
	}
	return w.pick(string(b), "'"+s+"'", s)
}

// inline is a value on one line, valid in JSON and as a flow collection of YAML.
func (w *writer) inline(depth int) string {
	switch n := w.IntN(6); {
	case depth > 0 && n == 0:
		return fmt.Sprintf(`{"if": [%s,%s %s]}`, w.inline(depth-1), w.pick("", " ", "  "), w.inline(depth-1))
	case depth > 0 && n == 1:
		return fmt.Sprintf(`{ "==" :[{"var":"targetingKey"}, %s] }`, w.inline(0))
	case n == 2:
		return w.pick("1.50", "-0.0", "12345678901234567", "true", "null", "1e3")
	case n == 3:
		return `"on"`
	}
	return w.pick(`"off"`, `"}: # {"`, `"\"'"`, `"grüße, \u00fc"`, `"it's"`)
}

// members of one flag, in any order; which of them stand in the text is left to chance.
func (w *writer) members(yaml bool) [][2]string {
	m := [][2]string{
		{"state", w.quoted("ENABLED", yaml)},
		{"variants", `{"on": true, "off": false}`},
	}
	if w.IntN(5) > 0 {
		m = append(m, [2]string{"defaultVariant", w.quoted(w.pick("on", "off"), yaml)})
	}
	if w.IntN(4) > 0 {
		m = append(m, [2]string{"targeting", w.pick("{}", "null", `{"if": [`+w.inline(3)+`, "on"]}`, `{"if": [`+w.inline(2)+`, "on", "off"]}`)})
	}
	if w.IntN(3) == 0 {
		m = append(m, [2]string{"metadata", `{"owner": "päyments # 1", "n": 1.50}`})
	}
	w.Shuffle(len(m), func(i, j int) { m[i], m[j] = m[j], m[i] })
	return m
}

// gap is white space between two words of JSON.
func (w *writer) gap() string { return w.pick("", " ", "\n  ", "\t", "\r\n") }

func (w *writer) json(keys []string) string {
	w.WriteString(w.gap() + "{" + w.gap() + `"flags"` + w.gap() + ":{")
	w.jsonFlags(keys, w.members)
	w.WriteString("}" + w.gap() + w.pick("", `,"metadata":{"v":1}`) + "}" + w.gap())
	return w.String()
}

// jsonFlags writes flags with their members.
func (w *writer) jsonFlags(keys []string, members func(yaml bool) [][2]string) {
	for i, k := range keys {
		if i > 0 {
			w.WriteString("," + w.gap())
		}
		w.WriteString(w.quoted(k, false) + w.gap() + ":" + w.gap() + "{")
		for j, m := range members(false) {
			if j > 0 {
				w.WriteString(w.gap() + ",")
			}
			w.WriteString(w.gap() + w.quoted(m[0], false) + w.gap() + ":" + w.gap() + m[1])
		}
		w.WriteString(w.gap() + "}")
	}
}

func (w *writer) yaml(keys []string) string {
	comment := func() string { return w.pick("", "", "  # a: {word", "\t# 'über") }
	between := func(indent int) {
		w.WriteString(w.pick("", "", "\n", strings.Repeat(" ", indent)+"# between\n", "# at the left\n"))
	}
	w.WriteString(w.pick("", "---\n", "# head\n") + "flags:" + comment() + "\n")
	deep := 1 + w.IntN(4)
	for _, k := range keys {
		between(deep)
		w.WriteString(strings.Repeat(" ", deep) + w.quoted(k, true) + ":")
		if w.IntN(3) == 0 {
			w.WriteString(" {")
			for j, m := range w.members(true) {
				if j > 0 {
					w.WriteString(w.pick(", ", " , ", ",\n"+strings.Repeat(" ", deep+3)))
				}
				w.WriteString(w.quoted(m[0], true) + ": " + m[1])
			}
			w.WriteString(w.pick("", " ") + "}" + comment() + "\n")
			continue
		}
		w.WriteString(comment() + "\n")
		deeper := deep + 1 + w.IntN(4)
		for _, m := range w.members(true) {
			between(deeper)
			indent := strings.Repeat(" ", deeper)
			w.WriteString(indent + w.quoted(m[0], true) + ":")
			if m[0] == "targeting" && strings.HasPrefix(m[1], `{"if": [`) && w.IntN(2) == 0 { // as a block
				dash := strings.Repeat(" ", deeper+1+w.IntN(2)*2)
				w.WriteString(comment() + "\n")
				between(deeper)
				w.WriteString(indent + " if:" + comment() + "\n" + dash + "- " + w.inline(2) + comment() + "\n")
				between(deeper + 2)
				w.WriteString(dash + "- " + w.pick("on", "'on'", `"on"`) + comment() + "\n")
				continue
			}
			w.WriteString(w.pick(" ", "   ") + m[1] + comment() + "\n")
		}
	}
	w.WriteString(w.pick("", "# end", "...\n", "metadata: {v: 1}\n", "\n\n"))
	return w.String()
}

// A randomFiles is a kind of files that are planned on, by their extension.
type randomFiles struct {
	seed  uint64
	n     int // of each extension
	write map[string]func(w *writer, keys []string) string
	plan  func(name string, s State) (Change, error)
	// refused reports whether err is one that such a file may get.
	refused func(err error) bool
	// check looks at a file before and after the edit.
	check func(t *testing.T, name, key, before, after string)
	// words that stand outside of what an edit may touch.
	words []string
	// At least so many of n files can be planned on, and at most so many are refused.
	least, most int
	splices     int // that an edit may need
}

// run wants that most files can be planned on, and that what is planned can be taken back.
func (r randomFiles) run(t *testing.T) {
	for extension, write := range r.write {
		t.Run(extension, func(t *testing.T) {
			name := "f" + extension
			outcomes := map[string]int{}
			for i := range uint64(r.n) {
				w := &writer{Rand: rand.New(rand.NewPCG(r.seed, i))}
				keys := []string{"a", "b.c", "größe", "x y"}
				w.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
				keys = keys[:1+w.IntN(4)]
				text := write(w, keys)
				key := keys[w.IntN(len(keys))]
				c, err := r.plan(name, State{Ref: Ref{"p", key}, Raw: []byte(text)})
				switch {
				case errors.Is(err, ErrAlreadyOff):
					outcomes["off"]++
					continue
				case err != nil && !r.refused(err):
					t.Fatalf("seed %d, %d: %v\n%s", r.seed, i, err, text)
				case err != nil:
					outcomes["refused"]++
					if outcomes["refused"] > r.most {
						t.Fatalf("seed %d, %d: too many are refused: %v\n%s", r.seed, i, err, text)
					}
					continue
				}
				outcomes["planned"]++
				after, err := forward(t, c).Apply([]byte(text))
				if err != nil {
					t.Fatal(err)
				}
				r.check(t, name, key, text, string(after))
				if back, err := splices(t, c.Inverse).Apply(after); err != nil || string(back) != text {
					t.Fatalf("seed %d, %d: taken back: %v\n%s", r.seed, i, err, text)
				}
				for _, word := range r.words {
					if strings.Count(text, word) != strings.Count(string(after), word) {
						t.Fatalf("seed %d, %d: lost %q:\n%s\nis now\n%s", r.seed, i, word, text, after)
					}
				}
				if n := len(forward(t, c)); n < 1 || n > r.splices {
					t.Fatalf("seed %d, %d: %d splices", r.seed, i, n)
				}
			}
			if outcomes["planned"] < r.least {
				t.Errorf("outcomes %v: fewer than %d could be planned", outcomes, r.least)
			}
			t.Logf("outcomes of %d files: %v", r.n, outcomes)
		})
	}
}

// What is planned on random files changes only the flag. DRIFTWATCH_RANDOM_FILES says how many of
// each kind are made (make live: enough for 10,000 edits).
func TestRandomFiles(t *testing.T) {
	n := 200
	if s := os.Getenv("DRIFTWATCH_RANDOM_FILES"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	randomFiles{
		seed: 20261122, n: n, least: n / 2, most: n / 10, splices: 3,
		write: map[string]func(*writer, []string) string{".json": (*writer).json, ".yaml": (*writer).yaml},
		plan: func(name string, s State) (Change, error) {
			return NewFlagdFile("p", name).Plan(s, OffVariant, Want{Variant: "off"})
		},
		refused: func(err error) bool { return errors.Is(err, ErrAmbiguousEdit) || errors.Is(err, ErrInvalid) },
		check:   checkOnlyPlanned,
		// Lines that go are the targeting's; comments outside of it stay.
		words: []string{"# head", "# at the left\nmetadata", "# end"},
	}.run(t)
}
