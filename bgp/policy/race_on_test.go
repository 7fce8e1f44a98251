//go:build race

package policy

// raceEnabled: the race detector makes the properties ten times slower, and looks for something else.
const raceEnabled = true
