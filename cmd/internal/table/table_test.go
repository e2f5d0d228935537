package table

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

var (
	columns = []string{"Name", "Status", "Zones", "Checked At"}
	at      = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	rows    = [][]any{
		{"east", "up", []string{"az1", "az2"}, at},
		{"we\x1b[31mst", nil, []string(nil), time.Time{}},
	}
	fields = []Field{{"name", "east"}, {"enabled", true}, {"quota", map[string]int{"cores": 20, "instances": 10}}, {"note", `a "b"` + "\nc"}}
)

func TestFormats(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		out  Output
		show bool
		want string
	}{
		{"list table", Output{}, false, `
+--------------+--------+----------+----------------------+
| Name         | Status | Zones    | Checked At           |
+--------------+--------+----------+----------------------+
| east         | up     | az1, az2 | 2026-01-02T03:04:05Z |
| we\x1b[31mst |        |          |                      |
+--------------+--------+----------+----------------------+
`},
		{"list of two columns, in the order asked for", Output{Columns: []string{"status", "NAME"}}, false, `
+--------+--------------+
| Status | Name         |
+--------+--------------+
| up     | east         |
|        | we\x1b[31mst |
+--------+--------------+
`},
		{"list json", Output{Format: JSON, Columns: []string{"Name", "Zones"}}, false, `
[
  {
    "Name": "east",
    "Zones": [
      "az1",
      "az2"
    ]
  },
  {
    "Name": "we\u001b[31mst",
    "Zones": null
  }
]
`},
		{"list yaml", Output{Format: YAML, Columns: []string{"Status", "Zones"}}, false, `
- Status: up
  Zones:
  - az1
  - az2
- Status: null
  Zones: null
`},
		{"list csv", Output{Format: CSV, Columns: []string{"Name", "Zones"}}, false, `
Name,Zones
east,"az1, az2"
we\x1b[31mst,
`},
		{"list value", Output{Format: Value, Columns: []string{"Name", "Status"}}, false, `
east up
we\x1b[31mst 
`},
		{"show table", Output{}, true, `
+---------+----------------------------+
| Field   | Value                      |
+---------+----------------------------+
| name    | east                       |
| enabled | true                       |
| quota   | cores='20', instances='10' |
| note    | a "b"                      |
|         | c                          |
+---------+----------------------------+
`},
		{"show json", Output{Format: JSON, Columns: []string{"quota", "enabled"}}, true, `
{
  "quota": {
    "cores": 20,
    "instances": 10
  },
  "enabled": true
}
`},
		{"show csv", Output{Format: CSV, Columns: []string{"note"}}, true, "\nField,Value\nnote,\"a \"\"b\"\"\nc\"\n"},
		{"show value", Output{Format: Value, Columns: []string{"name", "enabled"}}, true, "\neast\ntrue\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got bytes.Buffer
			err := tt.out.List(&got, columns, rows)
			if tt.show {
				got.Reset()
				err = tt.out.Show(&got, fields)
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := tt.want[1:]; got.String() != want {
				t.Errorf("got\n%s\nwant\n%s", got.String(), want)
			}
		})
	}
}

func TestNoRows(t *testing.T) {
	t.Parallel()
	for format, want := range map[Format]string{JSON: "[]\n", YAML: "[]\n", CSV: "Name\n", Value: ""} {
		var got bytes.Buffer
		out := Output{Format: format}
		if err := out.List(&got, []string{"Name"}, nil); err != nil || got.String() != want {
			t.Errorf("%s of no rows: got %q, %v, want %q", format, got.String(), err, want)
		}
	}
}

func TestFlags(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		args    []string
		refused string
	}{
		{"none", nil, ""},
		{"all", []string{"-f", "json", "-c", "Name", "--column", "Zones"}, ""},
		{"unknown format", []string{"-f", "xml"}, "no such format; there are: table json yaml csv value"},
		{"unknown column", []string{"-c", "nam"}, `no column "nam"; there are: Name, Status, Zones, Checked At`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out Output
			flags := pflag.NewFlagSet("list", pflag.ContinueOnError)
			flags.SetOutput(&bytes.Buffer{})
			out.Flags(flags)
			err := flags.Parse(tt.args)
			if err == nil {
				err = out.List(&bytes.Buffer{}, columns, rows)
			}
			if tt.refused == "" && err != nil || tt.refused != "" && (err == nil || !strings.Contains(err.Error(), tt.refused)) {
				t.Errorf("got error %v, want %q", err, tt.refused)
			}
		})
	}
}
