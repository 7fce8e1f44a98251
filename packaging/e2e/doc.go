// Package e2e installs the packages where nothing of ours is: in Debian roots,
// made once and kept in the user's cache folder, each with a systemd of its own
// (systemd-nspawn) in a network namespace of its own. Only tests are here.
package e2e
