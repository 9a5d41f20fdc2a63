//go:build unix

package livetest

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// noon is any fixed time.
func noon() time.Time { return time.Date(2026, 3, 11, 12, 0, 0, 0, time.UTC) }

func TestShopFollowsFromItsSeed(t *testing.T) {
	from, to := noon(), noon().Add(4*time.Hour)
	plain := NewShop(7, 4, 20)
	changed := NewShop(7, 4, 20)
	at := noon().Add(3*time.Hour + 7*time.Second)
	changed.Changes = []Change{{From: at, Routes: []string{"/v1/payments/1"}, Tail: 3}}
	a, b, c, other := plain.Series(from, to), plain.Series(from, to), changed.Series(from, to), NewShop(8, 4, 20).Series(from, to)
	differs := false
	for i := range a {
		if !equal(a[i], b[i], to) {
			t.Errorf("%v is not the same twice", a[i].Labels)
		}
		if !equal(a[i], c[i], at) {
			t.Errorf("%v differs before the change", a[i].Labels)
		}
		if a[i].Labels["route"] != "/v1/payments/1" && !equal(a[i], c[i], to) {
			t.Errorf("%v differs, but only /v1/payments/1 changed", a[i].Labels)
		}
		differs = differs || !equal(a[i], other[i], to)
	}
	if !differs {
		t.Error("another seed gives the same shop")
	}
}

// equal compares samples up to a time.
func equal(a, b Series, until time.Time) bool {
	cut := func(s Series) []Sample {
		n := 0
		for n < len(s.Samples) && !s.Samples[n].T.After(until) {
			n++
		}
		return s.Samples[:n]
	}
	return slices.EqualFunc(cut(a), cut(b), func(x, y Sample) bool {
		return x.T.Equal(y.T) && math.Float64bits(x.V) == math.Float64bits(y.V)
	})
}

func TestShopShape(t *testing.T) {
	shop := NewShop(3, 2, 50)
	day := 24 * time.Hour
	series := shop.Series(noon(), noon().Add(day))
	if want := 2 + 2*(12+4); len(series) != want { // up, build_info; buckets, count, sum, requests, retries
		t.Fatalf("%d series, want %d", len(series), want)
	}
	last := func(name, route, le string) float64 {
		t.Helper()
		for _, s := range series {
			if s.Labels["__name__"] == name && s.Labels["route"] == route && s.Labels["le"] == le {
				if len(s.Samples) < 5700 { // of 5,760 scrapes
					t.Errorf("%v has %d samples", s.Labels, len(s.Samples))
				}
				for i := 1; i < len(s.Samples); i++ {
					if s.Samples[i].V < s.Samples[i-1].V {
						t.Fatalf("%v falls at %v", s.Labels, s.Samples[i].T)
					}
				}
				return s.Samples[len(s.Samples)-1].V
			}
		}
		t.Fatalf("no %s{route=%q, le=%q}", name, route, le)
		return 0
	}
	const route = "/v1/catalog/1"
	count := last("http_server_request_duration_seconds_count", route, "")
	// E exp(0.6 cos x) over a day is the Bessel function I0(0.6) = 1.0921, and the load
	// drifts' variance of 0.02 adds 1 %.
	if want := 50 * 86400 * 1.0921 * 1.01; math.Abs(count/want-1) > 0.05 {
		t.Errorf("%v requests in a day, want about %v", count, want)
	}
	if inf := last("http_server_request_duration_seconds_bucket", route, "+Inf"); inf != count {
		t.Errorf("+Inf bucket %v, count %v", inf, count)
	}
	if one, five := last("http_server_request_duration_seconds_bucket", route, "1.0"), last("http_server_request_duration_seconds_bucket", route, "5.0"); one > five || five > count {
		t.Errorf("buckets are not cumulative: %v, %v, %v", one, five, count)
	}
	if rate := last("http_client_request_retries_total", route, "") / last("http_client_requests_total", route, ""); rate < 0.008 || rate > 0.013 {
		t.Errorf("%v retries per request, want about 0.01", rate)
	}
}

// beyond is the share of requests of a route slower than a bound in a span.
func beyond(t *testing.T, series []Series, route, le string, from, to time.Time) float64 {
	t.Helper()
	return 1 - growth(t, series, "http_server_request_duration_seconds_bucket", route, le, from, to)/
		growth(t, series, "http_server_request_duration_seconds_count", route, "", from, to)
}

func growth(t *testing.T, series []Series, name, route, le string, from, to time.Time) float64 {
	t.Helper()
	for _, s := range series {
		if s.Labels["__name__"] != name || s.Labels["route"] != route || s.Labels["le"] != le {
			continue
		}
		at := func(when time.Time) float64 {
			v := 0.0
			for _, x := range s.Samples {
				if !x.T.After(when) {
					v = x.V
				}
			}
			return v
		}
		return at(to) - at(from)
	}
	return 0
}

func TestShopChanges(t *testing.T) {
	from, at, to := noon(), noon().Add(2*time.Hour), noon().Add(4*time.Hour)
	shop := NewShop(6, 4, 50)
	for i := range shop.Endpoints {
		shop.Endpoints[i].Median = 0.05
	}
	shop.Endpoints[1].Retries = 0
	shop.Changes = []Change{
		{From: at, Routes: []string{"/v1/payments/1"}, Tail: 2},
		{From: at, Routes: []string{"/v1/payments/2"}, MoreRetries: 0.2},
		{From: at, Routes: []string{"/v1/catalog/1"}, Retries: 3, Load: 2},
		{From: at, Until: at.Add(time.Hour), Routes: []string{"/v1/catalog/2"}, Latency: 2},
	}
	series := shop.Series(from, to)

	// The slow 3 % have the median .05 e^1.6 = .2477 s, or twice that: P(> .5 s) goes from
	// .03 Q(ln(.5/.2477)/.5) = .03 Q(1.405) = .0024 to .03 Q(.0188) = .0148, about six times
	// as much, give or take the drifts.
	before, after := beyond(t, series, "/v1/payments/1", "0.5", from, at), beyond(t, series, "/v1/payments/1", "0.5", at, to)
	if ratio := after / before; ratio < 4 || ratio > 9 {
		t.Errorf("share beyond 0.5 s went from %v to %v, want about six times", before, after)
	}
	if before, after := beyond(t, series, "/v1/payments/2", "0.5", from, at), beyond(t, series, "/v1/payments/2", "0.5", at, to); after/before > 2 {
		t.Errorf("the tail of an endpoint without a change went from %v to %v", before, after)
	}

	const retries, requests = "http_client_request_retries_total", "http_client_requests_total"
	for _, s := range series {
		if s.Labels["__name__"] == retries && s.Labels["route"] == "/v1/payments/2" {
			if first := s.Samples[0]; !first.T.After(at) || first.T.After(at.Add(2*shop.Interval)) || first.V == 0 {
				t.Errorf("the retry series begins with %v, want a count right after %v", first, at)
			}
		}
	}
	if rate := growth(t, series, retries, "/v1/payments/2", "", at, to) / growth(t, series, requests, "/v1/payments/2", "", at, to); math.Abs(rate-0.2) > 0.01 {
		t.Errorf("retry rate %v, want 0.2", rate)
	}
	rate := func(from, to time.Time) float64 {
		return growth(t, series, retries, "/v1/catalog/1", "", from, to) / growth(t, series, requests, "/v1/catalog/1", "", from, to)
	}
	if ratio := rate(at, to) / rate(from, at); ratio < 2.2 || ratio > 4.2 {
		t.Errorf("retry rate changed %v times, want about 3", ratio)
	}
	quarter := 15 * time.Minute
	if ratio := growth(t, series, requests, "/v1/catalog/1", "", at, at.Add(quarter)) / growth(t, series, requests, "/v1/catalog/1", "", at.Add(-quarter), at); ratio < 1.5 || ratio > 2.7 {
		t.Errorf("load changed %v times, want about 2", ratio)
	}
	during, later := beyond(t, series, "/v1/catalog/2", "0.1", at, at.Add(time.Hour)), beyond(t, series, "/v1/catalog/2", "0.1", at.Add(time.Hour), to)
	if during < 3*later { // the median moves from 0.05 to 0.1: from about .09 to .5
		t.Errorf("share beyond 0.1 s is %v during the change and %v after it", during, later)
	}
}

func TestShopUpgrade(t *testing.T) {
	from, at, to := noon(), noon().Add(10*time.Minute), noon().Add(20*time.Minute)
	shop := NewShop(5, 1, 50)
	shop.Endpoints[0].Retries = 0
	shop.Changes = []Change{{From: from, Until: at.Add(-time.Minute), MoreRetries: 0.1}}
	shop.Upgrade = &ShopUpgrade{At: at, Version: "1.1", Restart: true}
	seen := 0
	for _, s := range shop.Series(from, to) {
		last := s.Samples[len(s.Samples)-1]
		stale := at.Add(shop.Interval) // the first scrape after at
		switch name := s.Labels["__name__"]; {
		case name == "build_info" && s.Labels["version"] == "1.0", name == "http_client_request_retries_total":
			seen++
			if !last.T.Equal(stale) || math.Float64bits(last.V) != math.Float64bits(StaleMarker()) {
				t.Errorf("%v ends with %v, want a stale marker at %v", s.Labels, last, stale)
			}
		case name == "build_info":
			seen++
			if first := s.Samples[0]; !first.T.Equal(stale) || s.Labels["version"] != "1.1" || first.V != 1 {
				t.Errorf("%v begins with %v, want 1 at %v", s.Labels, first, stale)
			}
		case strings.HasSuffix(name, "_count"):
			seen++
			i := slices.IndexFunc(s.Samples, func(x Sample) bool { return x.T.After(at) })
			if s.Samples[i].V >= s.Samples[i-1].V {
				t.Errorf("the count goes on from %v to %v over a restart", s.Samples[i-1], s.Samples[i])
			}
		}
	}
	if seen != 4 {
		t.Errorf("%d of 4 series seen", seen)
	}
}

// BenchmarkShop makes 10 endpoints with 7,000 scrapes.
func BenchmarkShop(b *testing.B) {
	shop := NewShop(1, 10, 50)
	for b.Loop() {
		if got := len(shop.Series(noon(), noon().Add(7000*shop.Interval))); got < 150 {
			b.Fatal(got)
		}
	}
}
