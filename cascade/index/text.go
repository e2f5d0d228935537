package index

import (
	"encoding/json"
	"fmt"
	"strings"
)

// decodeText reads JSON with numbers kept exactly as they were written.
func decodeText(text string, into any) error {
	if text == "" {
		return nil
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("decode stored JSON: %w", err)
	}
	return nil
}

func encodeText(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("encode JSON to store: %w", err)
	}
	return string(b), nil
}
