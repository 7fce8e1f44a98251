package bench

import "io"

// HTML writes the report.
func (r *Report) HTML(w io.Writer) error { return nil }
