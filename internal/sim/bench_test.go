package sim

import "testing"

// A family is 20 services of 10 endpoints.
func BenchmarkFamily(b *testing.B) {
	for b.Loop() {
		w := NewWorld(1, 50)
		for n := range 20 {
			w.Service(n)
		}
	}
}

func BenchmarkDeploy(b *testing.B) {
	s := NewWorld(1, 50).Service(0)
	at := s.World.Deploys()[0]
	for b.Loop() {
		s.Deploy(at, Effect{Whole: 0.5})
	}
}
