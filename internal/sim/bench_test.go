package sim

import "testing"

// BenchmarkFamily draws 20 services of 10 endpoints: a family of 200.
func BenchmarkFamily(b *testing.B) {
	for _, tt := range []struct {
		name   string
		rps    float64
		bounds []float64
	}{{"100rps", 100, Classic()}, {"50rps", 50, Classic()}, {"0.2rps", 0.2, Classic()}, {"native50rps", 50, Native()}} {
		b.Run(tt.name, func(b *testing.B) {
			b.ReportAllocs()
			w := NewWorld(1, tt.rps)
			w.Bounds = tt.bounds
			for b.Loop() {
				for n := range 20 {
					w.Service(n)
				}
			}
		})
	}
}

// BenchmarkDeploy draws one effect on one service: 10 endpoints, two hours.
func BenchmarkDeploy(b *testing.B) {
	b.ReportAllocs()
	s := NewWorld(1, 50).Service(0)
	at := s.World.Deploys()[0]
	for b.Loop() {
		s.Deploy(at, Effect{Whole: 0.5})
	}
}
