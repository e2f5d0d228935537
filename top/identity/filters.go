package identity

import (
	"net/url"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/identity"
)

// comparators are Keystone's inexact filters: ?name__contains=web, and with an i
// before the comparator without regard to case.
var comparators = map[string]func(name, part string) bool{
	"contains":   strings.Contains,
	"startswith": strings.HasPrefix,
	"endswith":   strings.HasSuffix,
	"equals":     func(name, part string) bool { return name == part },
}

// named keeps the items whose name agrees with every inexact filter of the
// query. A comparator that Keystone does not know selects nothing less, as there.
func named(query url.Values, items []object) []object {
	for key, parts := range query {
		comparator, ok := strings.CutPrefix(key, "name__")
		if !ok {
			continue
		}
		fits, exact := comparators[comparator]
		if !exact {
			fits = comparators[strings.TrimPrefix(comparator, "i")]
		}
		if fits == nil {
			continue
		}
		items = slices.DeleteFunc(items, func(o object) bool {
			name, _ := o["name"].(string)
			part := parts[0]
			if !exact {
				name, part = strings.ToLower(name), strings.ToLower(part)
			}
			return !fits(name, part)
		})
	}
	return items
}

// tagged keeps the projects that agree with ?tags (all of them), ?tags-any (one
// of them), ?not-tags (not all of them) and ?not-tags-any (none of them).
func tagged(c echo.Context, list []identity.Project) []identity.Project {
	for name, fits := range map[string]func(has, asked int) bool{
		"tags":         func(has, asked int) bool { return has == asked },
		"tags-any":     func(has, _ int) bool { return has > 0 },
		"not-tags":     func(has, asked int) bool { return has < asked },
		"not-tags-any": func(has, _ int) bool { return has == 0 },
	} {
		if c.QueryParam(name) == "" {
			continue
		}
		asked := strings.Split(c.QueryParam(name), ",")
		list = slices.DeleteFunc(list, func(p identity.Project) bool {
			has := 0
			for _, tag := range asked {
				if slices.Contains(p.Tags, tag) {
					has++
				}
			}
			return !fits(has, len(asked))
		})
	}
	return list
}
