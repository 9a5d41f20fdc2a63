package calibrate

import (
	"maps"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// A Tally is hits, or parts of hits, among trials in clusters that are independent of each other: services, or
// families of them. The sums are those that the variance of a ratio takes, so that tallies of
// different clusters add up. (Cochran 1977, section 6.4)
type Tally struct {
	Clusters int     `json:"clusters"`
	Hits     float64 `json:"hits"`
	Trials   float64 `json:"trials"`
	HH       float64 `json:"hh"` // sum of squared hits over clusters
	HT       float64 `json:"ht"`
	TT       float64 `json:"tt"`
}

// Cluster adds a cluster. One without trials is none.
func (t *Tally) Cluster(hits, trials float64) {
	if trials > 0 {
		t.merge(Tally{1, hits, trials, hits * hits, hits * trials, trials * trials})
	}
}

func (t *Tally) merge(u Tally) {
	t.Clusters += u.Clusters
	t.Hits += u.Hits
	t.Trials += u.Trials
	t.HH += u.HH
	t.HT += u.HT
	t.TT += u.TT
}

// Rate is the share of hits; NaN without trials.
func (t Tally) Rate() float64 { return t.Hits / t.Trials }

// SE is the standard error of Rate between clusters; 0 with fewer than two of them.
func (t Tally) SE() float64 {
	if t.Clusters < 2 {
		return 0
	}
	c, p := float64(t.Clusters), t.Rate()
	v := (t.HH - 2*p*t.HT + p*p*t.TT) / (t.Trials * t.Trials) * c / (c - 1)
	return math.Sqrt(max(0, v))
}

// Interval is a 95 % interval of the rate: Clopper and Pearson's where every cluster is one
// trial that is hit or not, else Wilson's at the number of independent trials that has the clustered standard
// error. Where nothing varies, as without any hit, clusters count as single trials: the
// cautious reading.
func (t Tally) Interval() (low, high float64) {
	if t.Trials == 0 {
		return math.NaN(), math.NaN()
	}
	p, se := t.Rate(), t.SE()
	if t.Trials == float64(t.Clusters) && t.HH == t.Hits {
		return clopperPearson(t.Hits, t.Trials)
	}
	n := float64(t.Clusters)
	if se > 0 && p < 1 {
		n = min(t.Trials, p*(1-p)/(se*se))
	}
	return wilson(p, n)
}

func clopperPearson(k, n float64) (low, high float64) {
	high = 1
	if k > 0 {
		low = distuv.Beta{Alpha: k, Beta: n - k + 1}.Quantile(0.025)
	}
	if k < n {
		high = distuv.Beta{Alpha: k + 1, Beta: n - k}.Quantile(0.975)
	}
	return low, high
}

const z975 = 1.959963984540054

func wilson(p, n float64) (low, high float64) {
	z2 := z975 * z975 / n
	mid := (p + z2/2) / (1 + z2)
	half := z975 / (1 + z2) * math.Sqrt(p*(1-p)/n+z2/(4*n))
	return max(0, mid-half), min(1, mid+half)
}

// Delays count alarms by the minute after the upgrade at which they came; or changes, by the
// per mille that were read.
type Delays map[int]int

// Median is the middle minute, with a 95 % interval of order statistics; NaN of none.
func (d Delays) Median() (median, low, high float64) {
	var minutes []float64
	for _, m := range slices.Sorted(maps.Keys(d)) {
		for range d[m] {
			minutes = append(minutes, float64(m))
		}
	}
	n := len(minutes)
	if n == 0 {
		return math.NaN(), math.NaN(), math.NaN()
	}
	half := z975 * math.Sqrt(float64(n)) / 2
	at := func(rank float64) float64 { return minutes[min(max(int(rank), 0), n-1)] }
	return (minutes[(n-1)/2] + minutes[n/2]) / 2, at(math.Floor(float64(n)/2 - half)), at(math.Ceil(float64(n)/2 + half))
}

// A Record is what was counted, by name. Records of different chunks add up.
type Record struct {
	Tallies map[string]Tally  `json:"tallies"`
	Delays  map[string]Delays `json:"delays"`
}

func newRecord() *Record {
	return &Record{Tallies: map[string]Tally{}, Delays: map[string]Delays{}}
}

func (r *Record) merge(s *Record) {
	for name, t := range s.Tallies {
		sum := r.Tallies[name]
		sum.merge(t)
		r.Tallies[name] = sum
	}
	for name, d := range s.Delays {
		for minute, n := range d {
			r.delay(name, minute, n)
		}
	}
}

func (r *Record) delay(name string, minute, n int) {
	if r.Delays[name] == nil {
		r.Delays[name] = Delays{}
	}
	r.Delays[name][minute] += n
}

// A cluster collects what one service, or one family, adds to the tallies of a record.
type cluster struct {
	record *Record
	counts map[string][2]float64
}

func (r *Record) cluster() *cluster { return &cluster{r, map[string][2]float64{}} }

// count adds a trial under a name.
func (c *cluster) count(name string, hit bool) {
	x := c.counts[name]
	if hit {
		x[0]++
	}
	x[1]++
	c.counts[name] = x
}

// share adds a trial that is hit in part: a false discovery proportion.
func (c *cluster) share(name string, part float64) {
	x := c.counts[name]
	c.counts[name] = [2]float64{x[0] + part, x[1] + 1}
}

// alarm adds a trial that is hit at a minute; 0 is no alarm.
func (c *cluster) alarm(name string, minute int) {
	c.count(name, minute > 0)
	if minute > 0 {
		c.record.delay(name, minute, 1)
	}
}

// close adds the cluster to its record.
func (c *cluster) close() {
	for name, x := range c.counts {
		t := c.record.Tallies[name]
		t.Cluster(x[0], x[1])
		c.record.Tallies[name] = t
	}
}
