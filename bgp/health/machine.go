package health

// machine is the hysteresis: results of checks in, changes out. Its zero value
// is down.
type machine struct {
	failures, successes int // in a row, to go down and up; at least 1
	up                  bool
	streak              int // results in a row that contradict up
}

// result takes the next result and reports whether up changed by it.
func (m *machine) result(ok bool) (changed bool) {
	if ok == m.up {
		m.streak = 0
		return false
	}
	m.streak++
	need := m.successes
	if m.up {
		need = m.failures
	}
	if m.streak < need {
		return false
	}
	m.up, m.streak = ok, 0
	return true
}
