package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/driftwatch/driftwatch/demo/internal/history"
	"github.com/driftwatch/driftwatch/demo/internal/model"
	"github.com/driftwatch/driftwatch/demo/internal/prom"
	"github.com/driftwatch/driftwatch/demo/internal/shop"
)

// A teller prints the story, one line per event.
type teller struct {
	mu  sync.Mutex
	out io.Writer
}

// say prints what has just happened.
func (t *teller) say(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.out, "  %s  %s\n", time.Now().UTC().Format("15:04:05"), fmt.Sprintf(format, args...))
}

// print prints without a time.
func (t *teller) print(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.out, format+"\n", args...)
}

// tell makes the story happen and prints it. It returns nil only if it went as its scenario should,
// and when it returns nothing that it started is running any more.
func tell(ctx context.Context, c config, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.limit, fmt.Errorf("it took longer than %v", c.limit))
	defer cancel()
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}()
	if _, err := exec.LookPath(c.driftwatch); err != nil {
		return fmt.Errorf("no driftwatch to run: %w; build it first, or name it with --driftwatch", err)
	}
	files, err := newFolder(c.out)
	if err != nil {
		return err
	}
	t := &teller{out: out}
	t.print("A made-up shop on 127.0.0.1; nothing leaves this machine. Ctrl-C stops everything.")

	p, err := prom.Start(model.Tick)
	if err != nil {
		return fmt.Errorf("start Prometheus: %w", err)
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	if err := files.write(p.URL); err != nil {
		return err
	}
	behind := shop.Strategy(shop.Decorrelated)
	if c.scenario == noChange {
		behind = shop.Fixed
	}
	s, err := shop.Start(files.flags, behind, model.NewWeather(c.seed+1), c.seed)
	if err != nil {
		return fmt.Errorf("start the shop: %w", err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()

	if err := traffic(ctx, c, t, p, s); err != nil {
		return err
	}
	w := watch{teller: t, prometheus: p, flags: files.flags}
	before, err := w.usual(ctx, 30*time.Second)
	if err != nil {
		return err
	}

	s.Upgrade()
	upgraded := time.Now()
	t.say("upgrade: the shop runs %s instead of %s; %s is on", shop.NewVersion, shop.OldVersion, shop.Flag)
	if err := w.upgrade(ctx); err != nil {
		return err
	}

	watching, stop := context.WithCancel(ctx)
	var seen sync.WaitGroup
	seen.Go(func() { w.run(watching, upgraded, before) })
	code, answer, err := check(ctx, c, files, t)
	stop()
	seen.Wait()
	if err != nil {
		return err
	}
	return finish(c, files, t, code, answer)
}

// traffic leads to the upgrade: overhead measured, history generated, live traffic scraped.
func traffic(ctx context.Context, c config, t *teller, p *prom.Server, s *shop.Shop) error {
	t.say("prometheus %s, shop http://%s: %d endpoints, customers are coming in", p.URL, s.Address, len(model.Endpoints))
	if !wait(ctx, c.overhead) {
		return ctx.Err()
	}
	weather := model.NewWeather(c.seed)
	past, err := history.NewWriter(weather, c.seed, s.Overhead(), history.Target{
		Job: prom.Job, Instance: prom.Instance, Version: shop.OldVersion,
	})
	if err != nil {
		return err
	}
	began := time.Now()
	seam, samples, err := past.Append(ctx, p.Appender, began.Add(-c.history), func() time.Time { return time.Now().Add(-time.Second) })
	if err != nil {
		return err
	}
	s.SetWeather(weather)
	t.say("history: %s of usual traffic generated from the shop's own model, %.1f million samples in %.1f s",
		spoken(c.history), float64(samples)/1e6, time.Since(began).Seconds())

	// The shop's counters begin anew after the generated ones. The hole between them is longer
	// than the gap that a reader bridges, so the reset adds nothing to any step.
	p.Scrape(s.Address)
	t.say("live: scraped every %v from now on, %.1f s after the end of the history", model.Tick, time.Since(seam).Seconds())
	half := min(c.live/2, 20*time.Second)
	if !wait(ctx, half) {
		return ctx.Err()
	}
	w := watch{teller: t, prometheus: p}
	rates, err := w.usual(ctx, half-time.Second)
	if err != nil {
		return err
	}
	t.say("usual traffic: %.0f requests/s; %s: p99 %s, retries %.1f %% of requests",
		rates.requests, name(slow()), rates.p99, 100*rates.retries)
	if !wait(ctx, c.live-half) {
		return ctx.Err()
	}
	return nil
}

// check runs driftwatch and passes on its progress line by line as it comes.
func check(ctx context.Context, c config, files folder, t *teller) (code int, answer string, err error) {
	args := []string{
		"check", "--config", files.config, "--rules", files.rule, "--wait", "--act", "--color", "never",
		"--out", "json=" + files.reportJSON, "--out", "text=" + files.reportText, "--out", "html=" + files.reportHTML,
	}
	t.say("driftwatch check --config %s --wait --act", files.config)
	cmd := exec.CommandContext(ctx, c.driftwatch, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	// One core is left to the shop, whose latencies are the subject.
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	var stdout strings.Builder
	cmd.Stdout = &stdout
	progress, err := cmd.StderrPipe()
	if err != nil {
		return 0, "", err
	}
	if err := cmd.Start(); err != nil {
		return 0, "", fmt.Errorf("run driftwatch: %w", err)
	}
	var looks folded
	lines := bufio.NewScanner(progress)
	for lines.Scan() {
		if line := strings.TrimRight(lines.Text(), " "); line != "" && !looks.repeats(line) {
			t.say("driftwatch │ %s", line)
		}
	}
	err = cmd.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Exited() {
		err = nil
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return 0, "", fmt.Errorf("run driftwatch: %w", err)
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), nil
}

// folded thins the looks that say what the look before them said: the first and every tenth remain.
type folded struct {
	said string
	n    int
}

// repeats reports whether line is one to leave out.
func (f *folded) repeats(line string) bool {
	look := lookLine.FindStringSubmatch(line)
	if look == nil {
		return false
	}
	if look[1] != f.said {
		f.said, f.n = look[1], 0
		return false
	}
	f.n++
	return f.n%10 != 0
}

// lookLine is a line of progress such as "look 3, 14:27:30   nothing confirmed in 20".
var lookLine = regexp.MustCompile(`^\s*look \d+, [\d:]+\s+(.*)$`)

// finish reads what driftwatch left behind and says how the story ended.
func finish(c config, files folder, t *teller, code int, answer string) error {
	t.print("\n%s", strings.TrimRight(answer, "\n"))
	r, err := readRecord(files.reportJSON)
	if err != nil {
		return fmt.Errorf("driftwatch exited with %d: %w", code, err)
	}
	flags, err := os.ReadFile(files.flags)
	if err != nil {
		return err
	}
	t.print("\nreport   %s", files.reportHTML)
	t.print("         %s and %s", files.reportText, files.reportJSON)
	if err := (ending{exitCode: code, record: r, flags: flags}).judge(c.scenario); err != nil {
		return err
	}
	if c.scenario == noChange {
		t.print("An upgrade that changed nothing: no regression, and the flag file is untouched, byte for byte.")
		return nil
	}
	t.print("The flag file says off, the report says verified and recovered.     next   make demo ARGS=--scenario=%s", noChange)
	return nil
}

// wait waits for d and reports whether ctx is still alive.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// spoken is a whole number of minutes as people say it.
func spoken(d time.Duration) string {
	return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
}
