package sim

import (
	"math"
	"testing"
)

func meanSD(x []float64) (mean, sd float64) {
	for _, v := range x {
		mean += v
	}
	mean /= float64(len(x))
	for _, v := range x {
		sd += (v - mean) * (v - mean)
	}
	return mean, math.Sqrt(sd / float64(len(x)))
}

// Expected numbers are by hand from the constants of the generator. A spike lasts 167.0 s on
// average (whole steps of Exp(180 s) held within 60 and 480 s) and is 0.6 high.
func TestSpikes(t *testing.T) {
	const steps, rate = 2_000_000, 1.0 / (40 * 3600) // rare, so that few overlap
	x := spikes(stream(5), steps, rate)
	in, sum := 0.0, 0.0
	for _, v := range x {
		if v > 0 {
			in++
			sum += v
		}
		if v < 0 || v >= 1 {
			t.Fatalf("a spike of %v", v)
		}
	}
	if got, want := in/steps, 167.0*rate; math.Abs(got/want-1) > 0.15 {
		t.Errorf("share of time in spikes = %.5f, want %.5f", got, want)
	}
	if got := sum / in; math.Abs(got-0.6) > 0.04 {
		t.Errorf("mean height = %.3f, want 0.6", got)
	}
}

// The variance of the log load is .6^2/2 + .15^2/2 of the day's course, .05^2 of the day and
// .15^2 of the autoregressions, together 0.4650^2; that of the slow share's logit
// (.3 x .465)^2 + .25^2 + (1.8 x .05)^2 and spikes; that of the retry rate's logit
// .25^2 + .1^2 + (.3 x .465)^2 and spikes. Spikes have a mean of
// .6 x 167 s x (1/4 h + 1/8 h) = 0.0104, hardly fewer for overlaps.
func TestCourses(t *testing.T) {
	w := NewWorld(6, 2)
	var load, slow, retry, within []float64
	for n := range 12 {
		for _, c := range w.courses(n) {
			var mu []float64
			for i := range c.load {
				load = append(load, math.Log(float64(c.load[i])))
				slow = append(slow, float64(c.slow[i]))
				retry = append(retry, float64(c.retry[i]))
				mu = append(mu, float64(c.mu[i]))
			}
			mean, sd := meanSD(mu)
			within = append(within, sd)
			if mean < math.Log(0.02)-0.2 || mean > math.Log(0.4)+0.2 {
				t.Errorf("service %d has an endpoint with a median of %.3f s", n, math.Exp(mean))
			}
		}
	}
	near := func(what string, got, want, by float64) {
		t.Helper()
		if math.Abs(got-want) > by {
			t.Errorf("%s = %.4f, want %.4f within %v", what, got, want, by)
		}
	}
	mean, sd := meanSD(load)
	near("mean log load", mean, math.Log(2*30), 0.02)
	near("sd of log load", sd, 0.465, 0.015)
	mean, sd = meanSD(slow)
	near("mean logit of the slow share", mean, math.Log(0.03/0.97)+0.0104, 0.02)
	near("sd of it", sd, math.Sqrt(0.1395*0.1395+0.0625+0.0081+0.0073), 0.02)
	mean, sd = meanSD(retry)
	near("mean logit of the retry rate", mean, math.Log(0.01/0.99)+0.0104, 0.02)
	near("sd of it", sd, math.Sqrt(0.0625+0.01+0.1395*0.1395+0.0073), 0.02)
	// .2 x .465, .05, .03, .03, .03 and half of the spikes
	mean, _ = meanSD(within)
	near("sd of log-latency", mean, math.Sqrt(0.093*0.093+0.0025+3*0.0009+0.25*0.0073), 0.01)
}

func TestWorldsDiffer(t *testing.T) {
	plain := NewWorld(7, 1)
	mean := func(w World, service int) float64 {
		sum := 0.0
		for _, c := range w.courses(service) {
			for _, v := range c.slow {
				sum += float64(v)
			}
		}
		return sum / float64(len(w.Rates)*w.Days*stepsPerDay)
	}

	spiky := plain
	spiky.SpikyEvery = 4
	// Spikes eight times as often raise the mean by 7 x 0.0104, less some for overlaps.
	if rise := mean(spiky, 4) - mean(plain, 4); rise < 0.03 || rise > 0.12 {
		t.Errorf("the slow share's logit of a spiky service is higher by %.3f, want about 0.07", rise)
	}
	if mean(spiky, 5) != mean(plain, 5) {
		t.Error("only every fourth service is spiky, but the fifth is, too")
	}

	job := plain
	job.Job = true
	with, without := job.courses(1)[3], plain.courses(1)[3]
	for i := range with.mu {
		var mu, retry float64
		if minute := i / 2 % minutesPerDay; minute >= 850 && minute < 870 {
			mu, retry = math.Log(1.25), math.Log(1.5)
		}
		if d := float64(with.mu[i] - without.mu[i]); math.Abs(d-mu) > 1e-5 {
			t.Fatalf("step %d: the job adds %v to log-latency, want %v", i, d, mu)
		}
		if d := float64(with.retry[i] - without.retry[i]); math.Abs(d-retry) > 1e-5 {
			t.Fatalf("step %d: the job adds %v to retries, want %v", i, d, retry)
		}
	}
	if got := job.Deploys(); len(got) != 1 || got[0] != 7*1440+845 {
		t.Errorf("Deploys() = %v, want five minutes before the job of the last day", got)
	}

	full := plain
	full.Capacity = 4
	with, without = full.courses(1)[3], plain.courses(1)[3]
	for i := range with.mu {
		want := full.waiting(float64(with.load[i]) / 30)
		if d := float64(with.mu[i] - without.mu[i]); math.Abs(d-want) > 1e-5 {
			t.Fatalf("step %d: saturation adds %v to log-latency, want %v", i, d, want)
		}
	}
}
