//go:build !race

package policy

// raceEnabled is false without the race detector.
const raceEnabled = false
