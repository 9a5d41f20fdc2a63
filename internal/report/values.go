package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// A Number is a float64 that is null in JSON where it cannot be had: NaN, or infinite.
type Number float64

// None is the number that cannot be had.
func None() Number { return Number(math.NaN()) }

// Known reports whether n is a finite number.
func (n Number) Known() bool {
	return !math.IsNaN(float64(n)) && !math.IsInf(float64(n), 0)
}

// MarshalJSON writes a number that cannot be had as null.
func (n Number) MarshalJSON() ([]byte, error) {
	if !n.Known() {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// UnmarshalJSON reads null as NaN.
func (n *Number) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*n = None()
		return nil
	}
	return json.Unmarshal(b, (*float64)(n))
}

// A Word is a string that is null in JSON where it is empty.
type Word string

// MarshalJSON writes "" as null.
func (w Word) MarshalJSON() ([]byte, error) {
	if w == "" {
		return []byte("null"), nil
	}
	return json.Marshal(string(w))
}

// UnmarshalJSON reads null as "".
func (w *Word) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*w = ""
		return nil
	}
	return json.Unmarshal(b, (*string)(w))
}

// A Time is an instant, RFC 3339 in UTC to the millisecond; the zero value is null in JSON.
type Time struct{ time.Time }

// At is t as a Time of a report: in UTC and cut to the millisecond, so that what is
// rendered now and what is rendered from a stored report is the same.
func At(t time.Time) Time {
	if t.IsZero() {
		return Time{}
	}
	return Time{t.UTC().Truncate(time.Millisecond)}
}

// MarshalJSON writes the zero time as null.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return json.Marshal(t.UTC().Truncate(time.Millisecond).Format(time.RFC3339Nano))
}

// UnmarshalJSON reads null as the zero time.
func (t *Time) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*t = Time{}
		return nil
	}
	var v time.Time
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	*t = At(v)
	return nil
}

// A Label is one endpoint label and its value.
type Label struct{ Name, Value string }

// Labels are the endpoint labels of a comparison in the rule's order; a JSON object.
type Labels []Label

// MarshalJSON writes an object with the labels in their order.
func (l Labels) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, x := range l {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(x.Name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(x.Value)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// UnmarshalJSON reads an object of strings and keeps its order.
func (l *Labels) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("labels are not an object: %.20q", b)
	}
	*l = Labels{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		var value string
		if err := d.Decode(&value); err != nil {
			return fmt.Errorf("label %v: %w", name, err)
		}
		*l = append(*l, Label{name.(string), value})
	}
	return nil
}
