package flags

import (
	"errors"
	"testing"
)

func TestServes(t *testing.T) {
	set, err := loadFlagd("f.json", []byte(jsonFile))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, key, variant string
		words              string // of the whole error; "" = none
	}{
		{"by default", "isoff", "off", ""},
		{"another variant", "plain", "off", `invalid: flagd would serve "on" with reason STATIC, not "off" to everybody`},
		{"by targeting", "ref", "off", `invalid: flagd would serve "off" with reason TARGETING_MATCH, not "off" to everybody`},
		{"disabled", "dis", "on", `invalid: flagd would serve "" with reason DISABLED, not "on" to everybody`},
		{"an error of flagd's", "none", "off", `invalid: flagd would serve "" with reason ERROR: FLAG_NOT_FOUND`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := set.serves(tt.key, tt.variant)
			if tt.words == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, ErrInvalid) || err.Error() != tt.words {
				t.Errorf("error %q, want %q", err, tt.words)
			}
		})
	}
}
