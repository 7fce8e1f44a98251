package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/transitd/transitd/pkg/control"
)

// client makes a client for the socket of the flag, the environment, or the only one there is.
func (a *app) client() (*control.Client, error) {
	for _, s := range []string{a.socket, a.env("TRANSITD_SOCKET")} {
		if s != "" {
			return a.clientOf(s), nil
		}
	}
	pattern := filepath.Join(a.socketDir, "*.sock")
	sockets, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("look for sockets: %w", err)
	}
	switch len(sockets) {
	case 0:
		return nil, &control.UnreachableError{Socket: pattern, Err: errors.New("there is no such socket")}
	case 1:
		return a.clientOf(sockets[0]), nil
	}
	return nil, &usageError{msg: "several nodes run here: " + strings.Join(sockets, ", "), hint: "choose one: --socket " + sockets[0]}
}

// clientOf makes a client for a socket.
func (a *app) clientOf(socket string) *control.Client {
	c := control.NewClient(socket)
	c.Timeout = a.timeout
	return c
}

// show prints an answer as JSON, or with table.
func (a *app) show(answer any, table func()) error {
	if a.output == "json" {
		return a.json(answer)
	}
	table()
	return nil
}

// exitFor turns "is everything well?" into the error that sets the exit status.
func exitFor(healthy bool) error {
	if healthy {
		return nil
	}
	return degradedError{}
}
