package config

import "github.com/driftwatch/driftwatch/internal/strictyaml"

// A GoffFile is a file of GO Feature Flag, edited in place.
type GoffFile struct {
	Path    string
	Refresh *GoffRefresh // nil: who reads the file polls it
}

// A GoffRefresh is the relay proxy that is made to read the file after a write.
type GoffRefresh struct {
	URL string
	Key Secret // an admin key
}

func (p *parser) goffFile(v strictyaml.Value) *GoffFile {
	m, ok := v.Map()
	if !ok {
		return nil
	}
	defer m.Close()
	g := &GoffFile{Path: p.filePath(m)}
	if r, ok := m.Get("refresh").Map(); ok {
		g.Refresh = &GoffRefresh{URL: p.url(r.Need("url", "write the relay proxy's address: url: http://localhost:1031")), Key: p.secret(r, "key", true)}
		r.Close()
	}
	return g
}
