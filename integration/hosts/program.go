package hosts

import (
	"errors"
	"fmt"
	"slices"
)

// Program gives a program that is no test what a bed needs: f's beds are gone when it returns, and Fatalf ends f with an error.
func Program(logf func(format string, args ...any), f func(T) error) (err error) {
	p := &program{logf: logf}
	defer func() {
		switch v := recover().(type) {
		case nil:
		case stopped:
			err = errors.Join(err, v.why)
		default:
			p.cleanUp()
			panic(v)
		}
		p.failed = err != nil
		p.cleanUp()
	}()
	return f(p)
}

type program struct {
	logf     func(format string, args ...any)
	failed   bool
	cleanups []func()
}

// stopped unwinds f.
type stopped struct{ why error }

func (p *program) cleanUp() {
	for _, f := range slices.Backward(p.cleanups) {
		f()
	}
}

func (p *program) Helper() {}

func (p *program) Cleanup(f func()) { p.cleanups = append(p.cleanups, f) }

func (p *program) Failed() bool { return p.failed }

func (p *program) Logf(format string, args ...any) { p.logf(format, args...) }

func (p *program) Fatalf(format string, args ...any) { panic(stopped{fmt.Errorf(format, args...)}) }

func (p *program) Skipf(format string, args ...any) { p.Fatalf(format, args...) }
