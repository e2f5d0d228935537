package openstack

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// taggedServers is the microversion from which on a server can be created with tags.
var taggedServers = version{2, 52}

// markOf returns how resources of a kind are marked at this site.
func (a *Adaptor) markOf(ctx context.Context, kind sites.Kind) (sites.Mark, error) {
	way := sites.Marking(kind)
	if way == sites.MarkTag {
		v, err := a.chosen(ctx, sites.Compute)
		if err != nil {
			return way, err
		}
		if v.less(taggedServers) {
			return sites.MarkMetadata, nil
		}
	}
	return way, nil
}

// mark returns a copy of body that carries the marker.
func (a *Adaptor) mark(ctx context.Context, kind sites.Kind, body sites.Body, marker ident.TopID) (sites.Body, error) {
	way, err := a.markOf(ctx, kind)
	if err != nil {
		return nil, err
	}
	body = copyBody(body)
	switch way {
	case sites.MarkTag:
		body["tags"] = append(texts(body["tags"]), sites.MarkerText(marker))
	case sites.MarkMetadata:
		body["metadata"] = withEntry(body["metadata"], sites.MetadataMarker, sites.MarkerText(marker))
	case sites.MarkDescription:
		body["description"] = sites.MarkerText(marker)
	case sites.MarkName:
		body["name"] = sites.MarkedName(marker)
	case sites.MarkProperty:
		body[sites.ImageMarker] = sites.MarkerText(marker)
	}
	return body, nil
}

// texts returns a copy of a list of texts, however it is typed.
func texts(v any) []any {
	var list []any
	switch tags := v.(type) {
	case []any:
		list = slices.Clone(tags)
	case []string:
		for _, t := range tags {
			list = append(list, t)
		}
	}
	return list
}

// withEntry returns a copy of a map of texts, however it is typed, with one entry more.
func withEntry(v any, key, value string) map[string]any {
	copied := map[string]any{}
	switch m := v.(type) {
	case map[string]any:
		copied = copyBody(m)
	case map[string]string:
		for k, v := range m {
			copied[k] = v
		}
	}
	copied[key] = value
	return copied
}

// FindMarked returns the account's resources of the kind that carry the
// marker. Where a service filters for an ordinary user it is asked to;
// every row is checked again, since services ignore filters that they do not know.
func (a *Adaptor) FindMarked(ctx context.Context, kind sites.Kind, marker ident.TopID) ([]sites.Object, error) {
	const op = "sites/openstack.FindMarked"
	way, err := a.markOf(ctx, kind)
	if err != nil {
		return nil, err
	}
	if way == sites.MarkNone || marker == "" {
		return nil, &fault.Error{Op: op, Site: string(a.site), Kind: fault.BadRequest, Msg: "a " + string(kind) + " carries no marker"}
	}
	if kind == sites.Keypair { // the name is the id
		found, err := a.Show(ctx, kind, ident.BottomID(sites.MarkedName(marker)))
		if fault.Is(err, fault.NotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return []sites.Object{found}, nil
	}
	var found []sites.Object
	err = a.List(ctx, kind, sites.Query{Params: filter(kind, way, marker)}, func(o sites.Object) error {
		if carries(o.Body, way, marker) {
			found = append(found, o)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if kind == sites.Image {
		found = withoutHeirs(found)
	}
	return found, nil
}

// filter is the query by which a service finds the marker for an ordinary user; nil when it cannot.
func filter(kind sites.Kind, way sites.Mark, marker ident.TopID) url.Values {
	switch way {
	case sites.MarkTag:
		return url.Values{"tags": {sites.MarkerText(marker)}}
	case sites.MarkDescription:
		return url.Values{"description": {sites.MarkerText(marker)}}
	case sites.MarkProperty:
		return url.Values{sites.ImageMarker: {sites.MarkerText(marker)}}
	case sites.MarkName:
		if kind != sites.ServerGroup { // Nova lists groups without any filter
			return url.Values{"name": {sites.MarkedName(marker)}}
		}
	case sites.MarkMetadata:
		if kind != sites.Server { // Nova heeds this filter for administrators only
			entry, _ := json.Marshal(map[string]string{sites.MetadataMarker: sites.MarkerText(marker)})
			return url.Values{"metadata": {string(entry)}}
		}
	}
	return nil
}

// carries reports whether a row bears the marker.
func carries(row sites.Body, way sites.Mark, marker ident.TopID) bool {
	switch way {
	case sites.MarkTag:
		return slices.Contains(texts(row["tags"]), any(sites.MarkerText(marker)))
	case sites.MarkMetadata:
		metadata, _ := row["metadata"].(map[string]any)
		return str(metadata[sites.MetadataMarker]) == sites.MarkerText(marker)
	case sites.MarkDescription:
		return str(row["description"]) == sites.MarkerText(marker)
	case sites.MarkName:
		return str(row["name"]) == sites.MarkedName(marker)
	case sites.MarkProperty:
		return str(row[sites.ImageMarker]) == sites.MarkerText(marker)
	}
	return false
}

// withoutHeirs drops images that a server booted from another of the found
// ones was saved to: Nova copies the properties of the first to the second.
func withoutHeirs(found []sites.Object) []sites.Object {
	ids := map[string]bool{}
	for _, o := range found {
		ids[string(o.ID)] = true
	}
	return slices.DeleteFunc(found, func(o sites.Object) bool {
		base := o.Text("base_image_ref")
		return base != string(o.ID) && ids[base]
	})
}
