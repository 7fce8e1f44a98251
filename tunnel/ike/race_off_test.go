//go:build !race

package ike

// raceEnabled is false without the race detector.
const raceEnabled = false
