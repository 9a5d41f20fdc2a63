package sim

import "math"

// Each kind of thing is drawn from a stream of its own.
const (
	streamLatents uint64 = iota + 1
	streamHistory
	streamWindow
	streamFaults
)

// counts are what is measured of one endpoint, minute by minute.
type counts struct {
	trials  []uint32
	beyond  [][]uint32 // requests slower than each bound; shape (bounds, minutes)
	retries []uint32
}

func newCounts(bounds, minutes int) counts {
	v := make([]uint32, (bounds+2)*minutes)
	cut := func() []uint32 {
		row := v[:minutes:minutes]
		v = v[minutes:]
		return row
	}
	c := counts{trials: cut(), retries: cut()}
	for range bounds {
		c.beyond = append(c.beyond, cut())
	}
	return c
}

// A drawer draws counts from courses.
type drawer struct {
	logBounds []float64
	normal    *normalTable
}

func newDrawer(bounds []float64) *drawer {
	d := &drawer{normal: newNormalTable()}
	for _, b := range bounds {
		d.logBounds = append(d.logBounds, math.Log(b))
	}
	return d
}

// beyond is the share of requests slower than a bound whose log lies x above mu.
func (d *drawer) beyond(x, slow float64) float64 {
	return (1-slow)*d.normal.upper(x/bulkSD) + slow*d.normal.upper((x-slowGap)/slowSD)
}

// slower is the share of requests slower than the bound of this log in step i of c.
func (d *drawer) slower(c *course, i int, logBound, slow float64) float64 {
	x := logBound - float64(c.mu[i])
	q := d.beyond(x, slow)
	if c.slowed != nil {
		share := float64(c.slowed[i])
		q = (1-share)*q + share*d.beyond(x-c.by, slow)
	}
	return q
}

// draw fills out, whose minutes are half as many as the steps of c. The requests of a minute
// in a bucket are Poisson of the two steps' summed intensity, which is exact. They are divided
// between the two steps, and in each the retries are beta-binomial.
func (d *drawer) draw(r sampler, c *course, out *counts) {
	const s = 1/retryOverdispersion - 1
	means := make([]float64, len(d.logBounds)+1) // requests expected in each bucket, the last beyond all bounds
	for m := range out.trials {
		clear(means)
		for i := 2 * m; i < 2*m+2; i++ {
			load, slow := float64(c.load[i]), expit(float64(c.slow[i]))
			above := load
			for j, b := range d.logBounds {
				q := load * d.slower(c, i, b, slow)
				means[j] += above - q
				above = q
			}
			means[len(means)-1] += above
		}
		n := 0
		for j := len(means) - 1; j > 0; j-- {
			n += r.poisson(means[j])
			out.beyond[j-1][m] = uint32(n)
		}
		n += r.poisson(means[0])
		out.trials[m] = uint32(n)

		first := r.binomial(n, float64(c.load[2*m])/float64(c.load[2*m]+c.load[2*m+1]))
		retries := 0
		for i, n := range [2]int{first, n - first} {
			if n > 0 {
				p := c.retryRate(2*m + i)
				retries += r.binomial(n, r.beta(p*s, (1-p)*s))
			}
		}
		out.retries[m] = uint32(retries)
	}
}

// retryRate is the mean share of retried requests in step i, held within [1e-6, 0.9].
func (c *course) retryRate(i int) float64 {
	p := expit(float64(c.retry[i]))
	if c.more != nil {
		p *= math.Exp(float64(c.more[i]))
	}
	return min(max(p, 1e-6), 0.9)
}
