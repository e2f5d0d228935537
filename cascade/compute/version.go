package compute

import (
	"strconv"
	"strings"
)

// Version is a compute microversion, "2.93". The zero value is older than all.
type Version string

func (v Version) parts() (major, minor int) {
	a, b, _ := strings.Cut(string(v), ".")
	major, _ = strconv.Atoi(a) // what is no number is 0: older than all
	minor, _ = strconv.Atoi(b)
	return major, minor
}

func (v Version) less(w Version) bool {
	m, n := v.parts()
	x, y := w.parts()
	return m < x || m == x && n < y
}
