// Command counts runs the project's test suites and adds them up. It is what
// `make check` and `make test` end with:
//
//	counts run  -o FILE -- GO-TEST-ARGS...         runs `go test -json`, keeps the stream in FILE
//	counts step -o FILE [-empty] NAME -- CMD...    runs one command and adds it to FILE as a test
//	counts sum  FILE...                            one account of all files
//
// Each command exits 1 when something failed. sum also does when no test ran,
// and ends with a line of exactly this form:
//
//	N passed, N failed, N skipped
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

func main() { os.Exit(process(os.Args[1:], os.Stdout, os.Stderr)) }

// process returns the exit status: 0 all passed, 1 something failed, 2 usage.
func process(args []string, stdout, stderr io.Writer) int {
	commands := map[string]func([]string, io.Writer, io.Writer) error{"run": runSuite, "step": runStep, "sum": runSum}
	if len(args) == 0 || commands[args[0]] == nil {
		fmt.Fprintln(stderr, "usage: counts run|step|sum ...; see the package comment")
		return 2
	}
	if err := commands[args[0]](args[1:], stdout, stderr); err != nil {
		if !errors.Is(err, errFailed) {
			fmt.Fprintf(stderr, "counts %s: %v\n", args[0], err)
		}
		return 1
	}
	return 0
}

// errFailed says that what failed has been printed already.
var errFailed = errors.New("something failed")

// options parses "-o FILE [-empty] WORDS... -- COMMAND...".
func options(name string, args []string) (out string, empty bool, words, command []string, err error) {
	for i, a := range args {
		if a == "--" {
			args, command = args[:i], args[i+1:]
			break
		}
	}
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.StringVar(&out, "o", "", "file that receives the stream")
	flags.BoolVar(&empty, "empty", false, "any output of the command is a failure")
	if err = flags.Parse(args); err == nil && (out == "" || len(command) == 0) {
		err = errors.New("needs -o FILE and a command after --")
	}
	return out, empty, flags.Args(), command, err
}

// runSuite runs go test and shows packages as they end.
func runSuite(args []string, stdout, stderr io.Writer) error {
	out, _, _, command, err := options("run", args)
	if err != nil {
		return err
	}
	file, err := os.Create(out)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // the copy below reports what could not be written
	cmd := exec.Command("go", append([]string{"test", "-json"}, command...)...)
	var complaints bytes.Buffer
	cmd.Stderr = io.MultiWriter(stderr, &complaints)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start go test: %w", err)
	}
	tally := newTally()
	tally.live = stdout
	readErr := tally.read(io.TeeReader(pipe, file))
	if _, err := io.Copy(file, pipe); readErr == nil && err != nil { // lets go test end when a line could not be read
		readErr = err
	}
	waitErr := cmd.Wait()
	if readErr != nil {
		return fmt.Errorf("read the stream of go test: %w", readErr)
	}
	if waitErr != nil && tally.sum().failed == 0 {
		// go test refused its arguments or could not load a package: nothing in the stream says so.
		if err := record(file, "go test", strings.Join(command, " "), false, complaints.String()+waitErr.Error(), 0); err != nil {
			return err
		}
	}
	if waitErr != nil {
		return errFailed
	}
	return nil
}

// runStep runs a command and records it as a test of the package "house".
func runStep(args []string, stdout, _ io.Writer) error {
	out, empty, words, command, err := options("step", args)
	if err != nil {
		return err
	}
	// The flag may also follow the name: counts step -o FILE NAME -empty -- CMD.
	if len(words) == 2 && words[1] == "-empty" {
		words, empty = words[:1], true
	}
	if len(words) != 1 {
		return fmt.Errorf("needs one name, got %q", words)
	}
	file, err := os.OpenFile(out, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // record reports what could not be written
	begin := time.Now()
	text, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	passed := err == nil && (!empty || len(bytes.TrimSpace(text)) == 0)
	message := string(text)
	if err != nil {
		message += fmt.Sprintf("%s: %v\n", command[0], err)
	} else if !passed {
		message += fmt.Sprintf("%s names these files; `make fmt` rewrites them\n", words[0])
	}
	elapsed := time.Since(begin)
	if passed {
		fmt.Fprintf(stdout, "ok    %s %.1fs\n", words[0], elapsed.Seconds())
	} else {
		fmt.Fprintf(stdout, "FAIL  %s %.1fs\n%s", words[0], elapsed.Seconds(), message)
	}
	if err := record(file, "house", words[0], passed, message, elapsed); err != nil {
		return err
	}
	if !passed {
		return errFailed
	}
	return nil
}

// runSum prints the account of several streams.
func runSum(args []string, stdout, _ io.Writer) error {
	tally := newTally()
	for _, name := range args {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		err = tally.read(file)
		file.Close() //nolint:errcheck // read only
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
	}
	total := tally.sum()
	total.print(stdout)
	if total.failed > 0 || total.passed == 0 {
		return errFailed
	}
	return nil
}
