package volume

import (
	"maps"
	"testing"
)

func TestPairs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		want map[string]string
	}{
		{`{'a': 'b'}`, map[string]string{"a": "b"}},
		{`{"a": "b", "c":"d"}`, map[string]string{"a": "b", "c": "d"}},
		{`{u'user': u'unit'}`, map[string]string{"user": "unit"}},
		{`{"url": "http://x:1/y,z"}`, map[string]string{"url": "http://x:1/y,z"}},
		{`{"hw": "hw:1"}`, map[string]string{"hw": "hw:1"}},
		{`{}`, map[string]string{}},
		{``, map[string]string{}},
		{`nothing`, map[string]string{}},
	} {
		if got := pairs(tt.text); !maps.Equal(got, tt.want) {
			t.Errorf("pairs(%s) = %v, want %v", tt.text, got, tt.want)
		}
	}
}

func FuzzPairs(f *testing.F) {
	for _, seed := range []string{`{'a': 'b'}`, `{"a": "b"}`, `{u'a': u'b'}`, `{'a`, `{:}`, `{'a': 'it\'s'}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if pairs(text) == nil {
			t.Fatal("no map")
		}
	})
}
