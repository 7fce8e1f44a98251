package bench

import (
	"cmp"
	"slices"
	"sort"
)

// yardsticks are what everything is compared with.
func yardsticks() []string { return []string{"raw", "kernel-vxlan", "wireguard-go"} }

// sample is one number of one round.
type sample struct {
	test, unit string
	value      float64
}

// series collects the rounds of each subject, profile and test.
type series struct {
	order []key
	units map[key]string
	value map[key]map[int]float64 // by round
}

type key struct {
	subject string
	profile Profile
	test    string
}

func newSeries() *series {
	return &series{units: map[key]string{}, value: map[key]map[int]float64{}}
}

func (s *series) add(subject string, p Profile, round int, x sample) {
	k := key{subject, p, x.test}
	if s.value[k] == nil {
		s.order = append(s.order, k)
		s.units[k] = x.unit
		s.value[k] = map[int]float64{}
	}
	s.value[k][round] = x.value
}

// sorted are all keys by profile, then test, then subject, each as it came first.
func (s *series) sorted() []key {
	var profiles []Profile
	var tests []string
	for _, k := range s.order {
		if !slices.Contains(profiles, k.profile) {
			profiles = append(profiles, k.profile)
		}
		if !slices.Contains(tests, k.test) {
			tests = append(tests, k.test)
		}
	}
	keys := slices.Clone(s.order)
	slices.SortStableFunc(keys, func(a, b key) int {
		return cmp.Or(slices.Index(profiles, a.profile)-slices.Index(profiles, b.profile), slices.Index(tests, a.test)-slices.Index(tests, b.test))
	})
	return keys
}

// results are the medians; an empty list in JSON where there are none.
func (s *series) results() []Result {
	list := []Result{}
	for _, k := range s.sorted() {
		values := ordered(s.value[k])
		list = append(list, Result{
			Subject: k.subject, Profile: k.profile, Test: k.test, Unit: s.units[k],
			Median: median(values), Min: slices.Min(values), Max: slices.Max(values), Rounds: values,
		})
	}
	return list
}

// ratios compare round by round what was measured close in time.
func (s *series) ratios() []Ratio {
	list := []Ratio{}
	for _, k := range s.sorted() {
		for _, versus := range yardsticks() {
			if versus == k.subject {
				continue
			}
			var r []float64
			for round, v := range s.value[k] {
				if base, ok := s.value[key{versus, k.profile, k.test}][round]; ok && base > 0 {
					r = append(r, v/base)
				}
			}
			if len(r) > 0 {
				list = append(list, Ratio{Subject: k.subject, Versus: versus, Profile: k.profile, Test: k.test, Median: median(r)})
			}
		}
	}
	return list
}

// ordered are the values by their rounds.
func ordered(m map[int]float64) (list []float64) {
	rounds := make([]int, 0, len(m))
	for r := range m {
		rounds = append(rounds, r)
	}
	sort.Ints(rounds)
	for _, r := range rounds {
		list = append(list, m[r])
	}
	return list
}

// median of at least one value.
func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	if n%2 == 1 {
		return v[n/2]
	}
	return (v[n/2-1] + v[n/2]) / 2
}
