// Package statefile reads a desired state from a file: that of a host without a server, or of a test. What is wrong is said all at once,
// with the lines where it stands.
package statefile
