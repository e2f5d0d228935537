// Package main is headwater-agent: the agent of a host, and the commands that look at a running one.
package main

import (
	"os"

	"github.com/headwater-cloud/headwater/cmd/internal/run"
)

func main() { os.Exit(run.Main(process)) }
