package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/driftwatch/driftwatch/internal/report"
)

// An output is how and where a report is written.
type output struct {
	format string
	files  []string // FORMAT=FILE
	color  string
	ascii  bool
	all    bool

	html report.HTMLOptions
}

func (o *output) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&o.format, "output", "o", "text", "what stdout gets: text, json, markdown, html or junit")
	f.StringArrayVar(&o.files, "out", nil, "write another format to a file, as `FORMAT=FILE`, for example html=report.html; - is stdout; repeatable")
	f.StringVar(&o.color, "color", "auto", "colour in text: auto, always or never")
	f.BoolVar(&o.ascii, "ascii", false, "only ASCII in text")
	f.BoolVar(&o.all, "all", false, "unfold the rows that show no meaningful rise or lack data")
}

// formats are the formats that a report can be written in.
var formats = []string{"text", "json", "markdown", "html", "junit"}

// check refuses what write could not write, before any work is done.
func (o *output) check() error {
	if err := knownFormat("-o", o.format); err != nil {
		return err
	}
	for _, f := range o.files {
		format, file, ok := strings.Cut(f, "=")
		if !ok || file == "" {
			return usage("--out %s: write it as FORMAT=FILE, for example json=report.json", f)
		}
		if err := knownFormat("--out", format); err != nil {
			return err
		}
		if dir, err := os.Stat(filepath.Dir(file)); file != "-" && (err != nil || !dir.IsDir()) {
			return usage("--out %s: there is no folder %s; make it first", f, filepath.Dir(file))
		}
	}
	switch o.color {
	case "auto", "always", "never":
		return nil
	}
	return usage("--color %s is not one of auto, always, never", o.color)
}

func knownFormat(option, format string) error {
	if slices.Contains(formats, format) {
		return nil
	}
	return usage("%s %s is no format; formats: %s", option, format, strings.Join(formats, ", "))
}

// write writes a report to stdout, and then to every file that o names. Each file is written
// whole or not at all.
func (p *program) write(r *report.Report, o *output) error {
	width, terminal := p.terminal(p.stdout)
	_, failed := p.stdout.Write(o.render(r, o.format, terminal, width))
	for _, f := range o.files {
		format, file, _ := strings.Cut(f, "=")
		body := o.render(r, format, false, 100)
		var err error
		if file == "-" {
			_, err = p.stdout.Write(body)
		} else {
			err = writeFile(file, body)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("--out %s: %w", f, err))
		}
	}
	return failed
}

func (o *output) render(r *report.Report, format string, terminal bool, width int) []byte {
	switch format {
	case "json":
		return r.JSON()
	case "html":
		return report.HTML(r, o.html)
	case "markdown":
		return []byte(report.Markdown(r))
	case "junit":
		return report.JUnit(r)
	}
	color := o.color == "always" || o.color == "auto" && terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return []byte(report.Text(r, report.TextOptions{Width: width, Color: color, ASCII: o.ascii || terminal && !utf8Locale(), All: o.all}))
}

// surround says what a page links to: what the configuration names, else the Prometheus that is
// read from.
func (p *program) surround(w *world, o *output) {
	o.html.Links = report.Links{Prometheus: w.config.Links.Prometheus, Grafana: w.config.Links.Grafana}
	if o.html.Links.Prometheus == "" {
		o.html.Links.Prometheus = w.config.Prometheus.URL
		if w.prometheus != "" {
			o.html.Links.Prometheus = w.prometheus
		}
	}
}

// terminal returns the width that text is laid out in, 80 or 100 columns, and whether w is a
// terminal. Anything else than a terminal gets 100.
func (p *program) terminal(w io.Writer) (width int, terminal bool) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 100, false
	}
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil || columns >= 100 {
		return 100, true
	}
	return 80, true
}

// utf8Locale reports whether the locale can show more than ASCII. No locale at all counts as
// able: containers have none, and their logs are UTF-8.
func utf8Locale() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := os.Getenv(name); v != "" {
			v = strings.ToUpper(v)
			return strings.Contains(v, "UTF-8") || strings.Contains(v, "UTF8")
		}
	}
	return true
}

// writeFile replaces a file in one step: temporary file, sync, rename.
func writeFile(name string, body []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename, as it should
	if _, err := io.Copy(f, bytes.NewReader(body)); err != nil {
		f.Close()
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
