package sim

import (
	"math"
	"math/rand/v2"
)

// A sampler draws from the distributions that counts are made of. All are exact up to the
// rounding of float64.
type sampler struct{ *rand.Rand }

// stream returns the sampler of a run, a service and whatever else names it: PCG, seeded with
// two mixes of them all.
func stream(parts ...uint64) sampler {
	var a, b uint64 = 0x9e3779b97f4a7c15, 0xd1b54a32d192ed03
	for _, p := range parts {
		a = mix(a ^ p)
		b = mix(b + p)
	}
	return sampler{rand.New(rand.NewPCG(a, b))}
}

// mix is the finaliser of splitmix64. (Steele, Lea and Flood 2014)
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// rejectionMean is the mean from which transformed rejection is used; below, inversion needs
// fewer numbers.
const rejectionMean = 10

// poisson draws from Poisson(mean): inversion by sequential search, or transformed rejection
// with squeeze (PTRS; Hörmann 1993, "The transformed rejection method for generating Poisson
// random variables") where the mean is at least 10.
func (r sampler) poisson(mean float64) int {
	if mean >= rejectionMean {
		return r.poissonRejection(mean)
	}
	u := r.Float64()
	if u <= 1-mean { // exp(-mean) >= 1-mean: no exponential for the many empty buckets
		return 0
	}
	p := math.Exp(-mean)
	k := 0
	for u > p && k < 200 {
		u -= p
		k++
		p *= mean / float64(k)
	}
	return k
}

func (r sampler) poissonRejection(mean float64) int {
	b := 0.931 + 2.53*math.Sqrt(mean)
	a := -0.059 + 0.02483*b
	vr := 0.9277 - 3.6224/(b-2)
	for {
		u, v := r.Float64()-0.5, r.Float64()
		us := 0.5 - math.Abs(u)
		k := math.Floor((2*a/us+b)*u + mean + 0.43)
		if us >= 0.07 && v <= vr {
			return int(k)
		}
		if k < 0 || us < 0.013 && v > us {
			continue
		}
		lg, _ := math.Lgamma(k + 1)
		if math.Log(v*(1.1239+1.1328/(b-3.4))/(a/(us*us)+b)) <= k*math.Log(mean)-mean-lg {
			return int(k)
		}
	}
}

// binomial draws from Bin(n, p): inversion by sequential search, or transformed rejection
// (BTRS; Hörmann 1993, "The generation of binomial random variates") where n min(p, 1-p) is at
// least 10.
func (r sampler) binomial(n int, p float64) int {
	switch {
	case n <= 0 || p <= 0:
		return 0
	case p >= 1:
		return n
	case p > 0.5:
		return n - r.binomial(n, 1-p)
	case float64(n)*p >= rejectionMean:
		return r.binomialRejection(float64(n), p)
	}
	u := r.Float64()
	np := float64(n) * p
	if u <= 1-np { // (1-p)^n >= 1-np
		return 0
	}
	odds := p / (1 - p)
	f := math.Exp(float64(n) * math.Log1p(-p))
	k := 0
	for u > f && k < n {
		u -= f
		k++
		f *= odds * float64(n-k+1) / float64(k)
	}
	return k
}

func (r sampler) binomialRejection(n, p float64) int {
	sd := math.Sqrt(n * p * (1 - p))
	b := 1.15 + 2.53*sd
	a := -0.0873 + 0.0248*b + 0.01*p
	c := n*p + 0.5
	vr := 0.92 - 4.2/b
	for {
		u, v := r.Float64()-0.5, r.Float64()
		us := 0.5 - math.Abs(u)
		k := math.Floor((2*a/us+b)*u + c)
		if us >= 0.07 && v <= vr {
			return int(k)
		}
		if k < 0 || k > n {
			continue
		}
		m := math.Floor((n + 1) * p)
		ratio := logChoose(n, k) - logChoose(n, m) + (k-m)*math.Log(p/(1-p))
		if math.Log(v*(2.83+5.1/b)*sd/(a/(us*us)+b)) <= ratio {
			return int(k)
		}
	}
}

// logChoose is ln(n over k) without ln n!.
func logChoose(n, k float64) float64 {
	a, _ := math.Lgamma(k + 1)
	b, _ := math.Lgamma(n - k + 1)
	return -a - b
}

// gamma draws from Gamma(shape, 1). (Marsaglia and Tsang 2000; below shape 1 by their boost)
func (r sampler) gamma(shape float64) float64 {
	if shape < 1 {
		return r.gamma(shape+1) * math.Pow(r.Float64(), 1/shape)
	}
	d := shape - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := r.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v *= v * v
		u := r.Float64()
		if x2 := x * x; u < 1-0.0331*x2*x2 || math.Log(u) < x2/2+d*(1-v+math.Log(v)) {
			return d * v
		}
	}
}

// beta draws from Beta(a, b).
func (r sampler) beta(a, b float64) float64 {
	x := r.gamma(a)
	return x / (x + r.gamma(b))
}

// uniform draws from U(lo, hi).
func (r sampler) uniform(lo, hi float64) float64 { return lo + (hi-lo)*r.Float64() }

// An ar1 is a stationary first-order autoregression of step stepSeconds.
type ar1 struct{ a, s, x float64 }

// ar1 starts one with standard deviation sd and correlation time tau, seconds.
func (r sampler) ar1(sd, tau float64) ar1 {
	a := math.Exp(-stepSeconds / tau)
	return ar1{a: a, s: sd * math.Sqrt(1-a*a), x: sd * r.NormFloat64()}
}

// next returns the present value and goes one step on.
func (p *ar1) next(r sampler) float64 {
	x := p.x
	p.x = p.a*x + p.s*r.NormFloat64()
	return x
}
