//go:build !race

package wireguard

// raceEnabled is false without the race detector.
const raceEnabled = false
