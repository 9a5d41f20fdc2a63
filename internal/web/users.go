package web

import (
	"errors"
	"fmt"
	"net/http"
	"os"

	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/bcrypt"
)

// Users are those that a web config file of the exporter-toolkit names under basic_auth_users. The
// file is read at every use, as the listener does, so that a user who is taken out is gone at
// once. The zero value has none.
type Users struct{ Path string }

// ErrUnknownUser is a request without a user and password that the file knows.
var ErrUnknownUser = errors.New("no user of the web configuration sent this")

func (u Users) read() (map[string]string, error) {
	if u.Path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(u.Path)
	if err != nil {
		return nil, fmt.Errorf("read the web configuration: %w", err)
	}
	var c struct {
		Users map[string]string `yaml:"basic_auth_users"`
	}
	if err := yaml.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("read the web configuration: %s is not YAML", u.Path) // its text holds hashes
	}
	return c.Users, nil
}

// Any reports whether there are users.
func (u Users) Any() (bool, error) {
	users, err := u.read()
	return len(users) > 0, err
}

// Name is the user who sent r. The listener has checked the password already; it is checked
// again because the name goes into the journal and the listener may be another one.
func (u Users) Name(r *http.Request) (string, error) {
	users, err := u.read()
	if err != nil {
		return "", err
	}
	name, password, ok := r.BasicAuth()
	hash, known := users[name]
	if !ok || !known || bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) != nil {
		return "", ErrUnknownUser
	}
	return name, nil
}
