package flags

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
)

// Files are where the file below and the overlay are.
func (o *FlagdOverlay) Files() (base, overlay string) { return o.base.path, o.path }

// Served is what flagd makes of the texts of both files, as one text in JSON: the file below,
// with the flags of the overlay in the place of its own. A text that driftwatch would not write
// over, or that flagd would refuse, is an error of this package.
//
// It is the whole and not the overlay alone, because the store of flagd (core v0.16) keeps one
// definition per flag set and key: where a later source has taken the place of an earlier one
// and then drops the flag, nobody has it any more, until the earlier source changes.
func (o *FlagdOverlay) Served(base, overlay []byte) (string, error) {
	text, err := o.served(base, overlay)
	if err != nil {
		return "", o.fail(Ref{}, err)
	}
	return text, nil
}

func (o *FlagdOverlay) served(base, overlay []byte) (string, error) {
	below, err := toJSON(o.base.path, base)
	if err != nil {
		return "", fmt.Errorf("%w: %s, which the overlay lies over", err, o.base.path)
	}
	over, err := o.entries(overlay)
	if err != nil {
		return "", err
	}
	if _, err := loadSources(flagdSource{o.base.path, below}, flagdSource{o.path, string(overlay)}); err != nil {
		return "", err
	}
	if len(over) == 0 {
		return below, nil
	}
	var doc, all map[string]json.RawMessage
	if err := json.Unmarshal([]byte(below), &doc); err != nil {
		return "", fmt.Errorf("%w: %s: %w", ErrInvalid, o.base.path, err)
	}
	if err := json.Unmarshal(doc["flags"], &all); err != nil {
		return "", fmt.Errorf("%w: %s: %w; a list of flags has no overlay", ErrInvalid, o.base.path, err)
	}
	if all == nil {
		all = map[string]json.RawMessage{}
	}
	maps.Copy(all, over)
	if doc["flags"], err = plain(all); err != nil {
		return "", err
	}
	text, err := plain(doc)
	if err != nil {
		return "", err
	}
	if _, err := loadSources(flagdSource{o.path, string(text)}); err != nil {
		return "", err
	}
	return string(text), nil
}

// plain is JSON without the escapes that are for HTML.
func plain(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return bytes.TrimSpace(b.Bytes()), nil
}
