package calibrate

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/driftwatch/driftwatch/internal/sim"
)

// Options say what to run.
type Options struct {
	Out      string   // directory of what is finished already; "" keeps nothing
	Only     []string // bars; nil = all
	Scale    Scale
	Seed     uint64
	Workers  int
	For      time.Duration // draw no further family after this; 0 = until all are drawn
	Progress io.Writer
}

// Bars are the names that Options.Only may hold, in the order of the tables.
func Bars() []string {
	return []string{"S0", "S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "S11", "S12", "intervals", "recovery", "robust"}
}

func (o Options) wants(bars ...string) bool {
	return o.Only == nil || slices.ContainsFunc(bars, func(b string) bool { return slices.Contains(o.Only, b) })
}

// A job is an experiment with the parts that are wanted of it.
type job struct {
	experiment
	world  sim.World
	number int // of families
	file   string
	done   map[int]*chunk
}

// A chunk is one finished family, a line of a state file.
type chunk struct {
	Family  int     `json:"family"`
	Seconds float64 `json:"seconds"`
	Times   times   `json:"times"`
	Record  *Record `json:"record"`
}

// times are what making a family took, seconds.
type times struct {
	Drawing     float64 `json:"drawing"`     // services with their history
	Calibrating float64 `json:"calibrating"` // all their endpoints and metrics
}

// A Result is what was counted in the families of one experiment that are finished.
type Result struct {
	*Record
	Done, Of int // families
	times    []times
}

// Run simulates what o wants and is not in o.Out yet, and returns what was counted, by
// experiment. Finished families are kept even when ctx ends: the next start goes on.
// Experiments advance together, so that half of the time is half of each.
func Run(ctx context.Context, o Options) (map[string]Result, error) {
	jobs, err := o.plan()
	if err != nil {
		return nil, err
	}
	type task struct {
		job    *job
		family int
	}
	var tasks []task
	for _, j := range jobs {
		for n := range j.number {
			if j.done[n] == nil {
				tasks = append(tasks, task{j, n})
			}
		}
	}
	slices.SortStableFunc(tasks, func(a, b task) int {
		return cmp.Compare(float64(a.family)/float64(a.job.number), float64(b.family)/float64(b.job.number))
	})
	var (
		mu       sync.Mutex
		wait     sync.WaitGroup
		failed   error
		next     int
		finished int
		started  = time.Now()
	)
	for range o.Workers {
		wait.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				stop := failed != nil || i >= len(tasks) || ctx.Err() != nil || o.For > 0 && time.Since(started) > o.For
				mu.Unlock()
				if stop {
					return
				}
				t := tasks[i]
				begun := time.Now()
				r, took := t.job.measure(t.family)
				c := chunk{t.family, time.Since(begun).Seconds(), took, r}
				mu.Lock()
				t.job.done[t.family] = &c
				err := t.job.keep(c)
				failed = errors.Join(failed, err)
				finished++
				left := time.Duration(float64(time.Since(started)) / float64(finished) * float64(len(tasks)-finished))
				fmt.Fprintf(o.Progress, "%s: family %d of %d in %.1f s; %d of %d done, about %v left\n",
					t.job.name, t.family+1, t.job.number, c.Seconds, finished, len(tasks), left.Round(time.Second))
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	if err := errors.Join(failed, ctx.Err()); err != nil {
		return nil, err
	}
	out := map[string]Result{}
	for _, j := range jobs {
		x := Result{Record: newRecord(), Of: j.number}
		for n := range j.number { // in order, so that sums are the same each time
			if c := j.done[n]; c != nil {
				x.merge(c.Record)
				x.Done++
				if c.Times.Drawing > 0 && len(j.world.Rates)*j.services == familySize {
					x.times = append(x.times, c.Times)
				}
			}
		}
		out[j.name] = x
	}
	return out, nil
}

// plan lists the jobs with what is finished of them.
func (o Options) plan() ([]*job, error) {
	print := ""
	if o.Out != "" {
		if err := os.MkdirAll(o.Out, 0o755); err != nil {
			return nil, err
		}
		print = fingerprint()
	}
	var jobs []*job
	for i, e := range experiments() {
		var bars []string
		e.parts = slices.DeleteFunc(e.parts, func(p part) bool {
			if o.wants(p.bars...) {
				bars = append(bars, p.bars...)
				return false
			}
			return true
		})
		if len(e.parts) == 0 {
			continue
		}
		if o.Scale == Tiny && i > 0 {
			e.services /= 2
		}
		j := &job{experiment: e, number: e.families[o.Scale], done: map[int]*chunk{}}
		j.world = e.world(o.Seed*100 + uint64(i))
		if o.Out != "" {
			config := fmt.Sprintf("%d %+v %d %v %v %s", o.Seed, j.world, e.services, bars, judgeModes, print)
			j.file = filepath.Join(o.Out, fmt.Sprintf("%s-%x.jsonl", strings.ReplaceAll(e.name, " ", "-"), sha256.Sum256([]byte(config)))[:len(e.name)+1+12]+".jsonl")
			if err := j.load(); err != nil {
				return nil, err
			}
		}
		jobs = append(jobs, j)
	}
	return jobs, nil
}

// fingerprint is a number that changes when the statistics do: what is finished of an older
// implementation must not be added to what is measured now.
func fingerprint() string {
	w := plain(20)(1)
	f := newFamily(w, 0, 1)
	h := sha256.New()
	for _, e := range []sim.Effect{none, r2} {
		x := f.members[0].under(f.geometry, e)
		for _, c := range x.comparisons {
			fmt.Fprint(h, spelt(c))
		}
		for _, m := range judgeModes {
			fmt.Fprint(h, spelt(f.judge(ruleOf(m == against), m, func(*member, int) *outcome { return x })))
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// measure draws a family and counts. A family's numbers depend on nothing but the seed, its
// number and the world.
func (j *job) measure(n int) (*Record, times) {
	f := newFamily(j.world, n, j.services)
	r := newRecord()
	for _, p := range j.parts {
		if p.most == 0 || n < p.most {
			p.run(f, r)
		}
	}
	return r, f.times
}

// load reads what is finished. A last line that was cut in the middle of writing is removed.
func (j *job) load() error {
	b, err := os.ReadFile(j.file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	good := 0
	for s := bufio.NewReader(bytes.NewReader(b)); ; {
		line, err := s.ReadBytes('\n')
		var c chunk
		if err != nil || json.Unmarshal(line, &c) != nil || c.Record == nil {
			break
		}
		j.done[c.Family] = &c
		good += len(line)
	}
	if good < len(b) {
		return os.Truncate(j.file, int64(good))
	}
	return nil
}

// keep appends a finished family to the state.
func (j *job) keep(c chunk) error {
	if j.file == "" {
		return nil
	}
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(j.file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}
