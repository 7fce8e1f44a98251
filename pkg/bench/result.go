package bench

import "fmt"

// Report is what a run found: the JSON, and what the HTML is made from.
type Report struct {
	Version  int            `json:"schema_version"`
	Machine  Machine        `json:"machine"`
	Settings Settings       `json:"settings"`
	Results  []Result       `json:"results"`
	Ratios   []Ratio        `json:"ratios"`
	Loss     []Curve        `json:"loss_curves,omitempty"`
	Latency  []LatencyCurve `json:"latency_curves,omitempty"`
	// Left out are subjects that could not be measured, with the reason.
	LeftOut []LeftOut `json:"left_out,omitempty"`
}

// Settings are how it was measured.
type Settings struct {
	Rounds    int     `json:"rounds"`
	DurationS float64 `json:"duration_s"` // of each measurement
	TunnelMTU int     `json:"tunnel_mtu"`
}

// Result is one number of one subject.
type Result struct {
	Subject string    `json:"subject"`
	Profile Profile   `json:"profile"`
	Test    string    `json:"test"`
	Unit    string    `json:"unit"`
	Median  float64   `json:"median"`
	Min     float64   `json:"min"`
	Max     float64   `json:"max"`
	Rounds  []float64 `json:"rounds"`
}

// Ratio compares two subjects of the same run.
type Ratio struct {
	Subject string  `json:"subject"`
	Versus  string  `json:"versus"`
	Profile Profile `json:"profile"`
	Test    string  `json:"test"`
	Median  float64 `json:"median"` // of the rounds' ratios
}

// Curve is the loss at the rates that a search tried.
type Curve struct {
	Subject string  `json:"subject"`
	Profile Profile `json:"profile"`
	Points  []Point `json:"points"` // packets per second, loss in per cent
}

// LatencyCurve is how long round trips took: percentile, microseconds.
type LatencyCurve struct {
	Subject string  `json:"subject"`
	Profile Profile `json:"profile"`
	Load    string  `json:"load"` // "idle", or what else used the tunnel
	Points  []Point `json:"points"`
}

// Point is one of a curve.
type Point struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
}

// LeftOut is a subject without a number.
type LeftOut struct {
	Subject string  `json:"subject"`
	Profile Profile `json:"profile,omitempty"` // empty: in all
	Test    string  `json:"test,omitempty"`    // empty: all
	Reason  string  `json:"reason"`            // of the first time
	Rounds  int     `json:"rounds,omitempty"`  // in how many, of a test
	// Failed is true if it should have worked, false if its software is missing
	// or it is too slow for the test.
	Failed bool `json:"failed"`
}

// String is a sentence for a person.
func (l LeftOut) String() string {
	s := "skipped "
	switch {
	case l.Failed:
		s = "FAILED "
	case l.Test != "":
		s = "no number for "
	}
	s += l.Subject
	if l.Profile != "" {
		s += ", " + string(l.Profile)
	}
	if l.Test != "" {
		s += fmt.Sprintf(", %s (%d of the rounds)", l.Test, l.Rounds)
	}
	return s + ": " + l.Reason
}

// Failed reports whether anything that should have worked did not.
func (r *Report) Failed() bool {
	for _, l := range r.LeftOut {
		if l.Failed {
			return true
		}
	}
	return false
}

// Find returns a result, nil if there is none.
func (r *Report) Find(subject string, p Profile, test string) *Result {
	for i := range r.Results {
		if x := &r.Results[i]; x.Subject == subject && x.Profile == p && x.Test == test {
			return x
		}
	}
	return nil
}

// Ratio returns a ratio; ok is false if there is none.
func (r *Report) Ratio(subject, versus string, p Profile, test string) (float64, bool) {
	for _, x := range r.Ratios {
		if x.Subject == subject && x.Versus == versus && x.Profile == p && x.Test == test {
			return x.Median, true
		}
	}
	return 0, false
}
