// Package main is headwater: the Top service, its demonstration, and the
// operator's commands, which reach a running Top over its API as any client does.
package main

import (
	"os"

	"github.com/headwater-cloud/headwater/cmd/internal/run"
)

func main() { os.Exit(run.Main(process)) }
