//go:build race

package ike

// raceEnabled: the race detector makes the worlds ten times slower, and looks for something else.
const raceEnabled = true
