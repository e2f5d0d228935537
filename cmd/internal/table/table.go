// Package table prints what the operator's commands find, in the formats that
// the openstack command has taught everybody: -f table|json|yaml|csv|value and
// -c COLUMN. The machine formats (json, yaml, csv, value) are stable: a column
// may be added, its name and form do not change.
package table

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/pflag"
)

// Format is one way to print.
type Format string

// The formats. Table is for people; its look may change.
const (
	Table Format = "table"
	JSON  Format = "json"
	YAML  Format = "yaml"
	CSV   Format = "csv"
	Value Format = "value"
)

// Formats are all formats, in the order in which help names them.
func Formats() []Format { return []Format{Table, JSON, YAML, CSV, Value} }

// String returns the format's name.
func (f *Format) String() string { return string(*f) }

// Type returns what help calls the flag's value.
func (f *Format) Type() string { return "FORMAT" }

// Set accepts the name of a format.
func (f *Format) Set(s string) error {
	if !slices.Contains(Formats(), Format(s)) {
		return fmt.Errorf("no such format; there are: %s", strings.Trim(fmt.Sprint(Formats()), "[]"))
	}
	*f = Format(s)
	return nil
}

// Output is how a command prints. The zero value prints every column as a table.
type Output struct {
	Format  Format
	Columns []string // the columns to show, in this order; none means all. Case does not count.
}

// Flags registers -f/--format and -c/--column on a command's flags.
func (o *Output) Flags(flags *pflag.FlagSet) {
	if o.Format == "" {
		o.Format = Table
	}
	flags.VarP(&o.Format, "format", "f", "output format: table, json, yaml, csv or value")
	flags.StringArrayVarP(&o.Columns, "column", "c", nil, "show only this column; may be repeated")
}

// Field is one named value of a single object.
type Field struct {
	Name  string
	Value any
}

// List prints rows; each has a value for each column. json and yaml print a
// list of objects with the columns' names as keys; value prints a line for each
// row, with a blank between values; csv has a line of names first. A column
// that does not exist is an error that names those that do.
func (o *Output) List(w io.Writer, columns []string, rows [][]any) error {
	pick, err := o.pick(columns)
	if err != nil {
		return err
	}
	names := choose(columns, pick)
	chosen := make([][]any, len(rows))
	for i, row := range rows {
		chosen[i] = choose(row, pick)
	}
	switch o.Format {
	case JSON, YAML:
		objects := make([]object, len(chosen))
		for i, row := range chosen {
			objects[i] = pair(names, row)
		}
		return o.encode(w, objects)
	case CSV:
		return writeCSV(w, names, chosen)
	case Value:
		for _, row := range chosen {
			if _, err := fmt.Fprintln(w, strings.Join(texts(row), " ")); err != nil {
				return err
			}
		}
		return nil
	}
	return draw(w, names, chosen)
}

// Show prints one object. json and yaml print an object; value prints a line for
// each field; table and csv have the columns Field and Value.
func (o *Output) Show(w io.Writer, fields []Field) error {
	all := make([]string, len(fields))
	for i, f := range fields {
		all[i] = f.Name
	}
	pick, err := o.pick(all)
	if err != nil {
		return err
	}
	fields = choose(fields, pick)
	names, values := make([]string, len(fields)), make([]any, len(fields))
	rows := make([][]any, len(fields))
	for i, f := range fields {
		names[i], values[i], rows[i] = f.Name, f.Value, []any{f.Name, f.Value}
	}
	switch o.Format {
	case JSON, YAML:
		return o.encode(w, pair(names, values))
	case CSV:
		return writeCSV(w, []string{"Field", "Value"}, rows)
	case Value:
		for _, v := range texts(values) {
			if _, err := fmt.Fprintln(w, v); err != nil {
				return err
			}
		}
		return nil
	}
	return draw(w, []string{"Field", "Value"}, rows)
}

// pick returns the positions of the columns to show.
func (o *Output) pick(columns []string) ([]int, error) {
	var pick []int
	if len(o.Columns) == 0 {
		for i := range columns {
			pick = append(pick, i)
		}
		return pick, nil
	}
	for _, want := range o.Columns {
		i := slices.IndexFunc(columns, func(c string) bool { return strings.EqualFold(c, want) })
		if i < 0 {
			return nil, fmt.Errorf("no column %q; there are: %s", want, strings.Join(columns, ", "))
		}
		pick = append(pick, i)
	}
	return pick, nil
}

func choose[T any](all []T, pick []int) []T {
	out := make([]T, len(pick))
	for i, p := range pick {
		out[i] = all[p]
	}
	return out
}

// object is a JSON and YAML object that keeps the order of its keys.
type object []Field

func pair(names []string, values []any) object {
	o := make(object, len(names))
	for i, n := range names {
		o[i] = Field{n, values[i]}
	}
	return o
}

// MarshalJSON writes the fields in their order.
func (o object) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, f := range o {
		if i > 0 {
			out = append(out, ',')
		}
		name, err := json.Marshal(f.Name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(f.Value)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", f.Name, err)
		}
		out = append(append(append(out, name...), ':'), value...)
	}
	return append(out, '}'), nil
}

// encode writes JSON, or the same as YAML: so a value looks alike in both.
func (o *Output) encode(w io.Writer, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if o.Format == YAML {
		if data, err = yaml.JSONToYAML(data); err != nil {
			return fmt.Errorf("turn JSON into YAML: %w", err)
		}
	}
	_, err = w.Write(data)
	return err
}

func writeCSV(w io.Writer, names []string, rows [][]any) error {
	out := csv.NewWriter(w)
	if err := out.Write(names); err != nil {
		return err
	}
	for _, row := range rows {
		if err := out.Write(texts(row)); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// maxWidth is the width, in characters, at which a table's cell is wrapped.
const maxWidth = 100

// draw prints a table with the openstack command's borders.
func draw(w io.Writer, names []string, rows [][]any) error {
	t := table.NewWriter()
	t.SetStyle(table.StyleDefault)
	t.Style().Format.Header = text.FormatDefault
	configs := make([]table.ColumnConfig, len(names))
	header := make(table.Row, len(names))
	for i, n := range names {
		header[i] = n
		configs[i] = table.ColumnConfig{Number: i + 1, WidthMax: maxWidth}
	}
	t.SetColumnConfigs(configs)
	t.AppendHeader(header)
	for _, row := range rows {
		cells := make(table.Row, len(row))
		for i, s := range texts(row) {
			cells[i] = s
		}
		t.AppendRow(cells)
	}
	_, err := fmt.Fprintln(w, t.Render())
	return err
}
