package compute

import (
	"maps"
	"net/http"
	"slices"

	engine "github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/wire"
)

// The parts of a server: metadata, tags, addresses, volumes, ports, history.

func (k *call) find() (*engine.Server, error) {
	return k.h.service.Server(k.ctx(), k.caller, k.id())
}

func listMetadata(k *call) error {
	one, err := k.find()
	if err != nil {
		return err
	}
	return k.ok(object{"metadata": orEmpty(one.Spec.Metadata)})
}

// writeMetadata handles PUT (replace all) and POST (change some) of a server's metadata.
func writeMetadata(replace bool) func(*call) error {
	return func(k *call) error {
		m, err := k.wholeObject("metadata")
		if err != nil {
			return err
		}
		out, err := k.h.service.SetMetadata(k.ctx(), k.caller, k.id(), func(now map[string]string) (map[string]string, error) {
			if replace {
				return m, nil
			}
			maps.Copy(now, m)
			return now, nil
		})
		if err != nil {
			return err
		}
		return k.ok(object{"metadata": out})
	}
}

// wholeObject reads {"key": {text: text}}.
func (k *call) wholeObject(key string) (map[string]string, error) {
	m, err := wire.Body(k.Context)
	if err != nil {
		return nil, err
	}
	var out map[string]string
	if err := m.Take(key, &out); err != nil {
		return nil, err
	}
	if out == nil {
		return nil, wire.BadRequest("Invalid input for field/attribute %s. '%s' is a required property", key, key)
	}
	return out, checkAll(closed(m), checkMetadata(out))
}

func showMetadatum(k *call) error {
	one, err := k.find()
	if err != nil {
		return err
	}
	value, ok := one.Spec.Metadata[k.Param("key")]
	if !ok {
		return fault.New(fault.NotFound, "top/compute", "Metadata item was not found")
	}
	return k.ok(object{"meta": map[string]string{k.Param("key"): value}})
}

func putMetadatum(k *call) error {
	m, err := k.wholeObject("meta")
	if err != nil {
		return err
	}
	key := k.Param("key")
	value, ok := m[key]
	if !ok || len(m) != 1 {
		return wire.BadRequest("Request body and URI mismatch")
	}
	_, err = k.h.service.SetMetadata(k.ctx(), k.caller, k.id(), func(now map[string]string) (map[string]string, error) {
		now[key] = value
		return now, nil
	})
	if err != nil {
		return err
	}
	return k.ok(object{"meta": m})
}

func deleteMetadatum(k *call) error {
	_, err := k.h.service.SetMetadata(k.ctx(), k.caller, k.id(), func(now map[string]string) (map[string]string, error) {
		if _, ok := now[k.Param("key")]; !ok {
			return nil, fault.New(fault.NotFound, "top/compute", "Metadata item was not found")
		}
		delete(now, k.Param("key"))
		return now, nil
	})
	if err != nil {
		return err
	}
	return k.NoContent(http.StatusNoContent)
}

func listTags(k *call) error {
	one, err := k.find()
	if err != nil {
		return err
	}
	return k.ok(object{"tags": append([]string{}, one.Spec.Tags...)})
}

func replaceTags(k *call) error {
	m, err := wire.Body(k.Context)
	if err != nil {
		return err
	}
	var tags []string
	if err := m.Take("tags", &tags); err != nil {
		return err
	}
	if tags == nil {
		return wire.BadRequest("Invalid input for field/attribute tags. 'tags' is a required property")
	}
	for i, t := range tags {
		if err := checkTag(t); err != nil {
			return err
		}
		if slices.Contains(tags[:i], t) {
			return wire.BadRequest("Invalid input for field/attribute tags. Value: %s is there twice", t)
		}
	}
	if err := closed(m); err != nil {
		return err
	}
	out, err := k.h.service.SetTags(k.ctx(), k.caller, k.id(), func([]string) ([]string, error) { return tags, nil })
	if err != nil {
		return err
	}
	return k.ok(object{"tags": append([]string{}, out...)})
}

func deleteTags(k *call) error {
	if _, err := k.h.service.SetTags(k.ctx(), k.caller, k.id(), func([]string) ([]string, error) { return nil, nil }); err != nil {
		return err
	}
	return k.NoContent(http.StatusNoContent)
}

func noTag(k *call) error {
	return fault.New(fault.NotFound, "top/compute", "Server %s has no tag '%s'", k.id(), k.Param("tag"))
}

func showTag(k *call) error {
	one, err := k.find()
	if err != nil {
		return err
	}
	if !slices.Contains(one.Spec.Tags, k.Param("tag")) {
		return noTag(k)
	}
	return k.NoContent(http.StatusNoContent)
}

func putTag(k *call) error {
	tag, status := k.Param("tag"), http.StatusNoContent
	if err := checkTag(tag); err != nil {
		return err
	}
	_, err := k.h.service.SetTags(k.ctx(), k.caller, k.id(), func(now []string) ([]string, error) {
		status = http.StatusNoContent
		if slices.Contains(now, tag) {
			return now, nil
		}
		status = http.StatusCreated
		return append(now, tag), nil
	})
	if err != nil {
		return err
	}
	if status == http.StatusCreated {
		k.Response().Header().Set("Location", k.versioned()+"/servers/"+k.id()+"/tags/"+tag)
	}
	return k.NoContent(status)
}

func deleteTag(k *call) error {
	_, err := k.h.service.SetTags(k.ctx(), k.caller, k.id(), func(now []string) ([]string, error) {
		if !slices.Contains(now, k.Param("tag")) {
			return nil, noTag(k)
		}
		return slices.DeleteFunc(now, func(t string) bool { return t == k.Param("tag") }), nil
	})
	if err != nil {
		return err
	}
	return k.NoContent(http.StatusNoContent)
}

func (k *call) addresses() (map[string][]object, error) {
	one, err := k.find()
	if err != nil {
		return nil, err
	}
	ports, err := k.h.service.Addresses(k.ctx(), one.ID)
	return addresses(one, ports[one.ID], false), err
}

func listIPs(k *call) error {
	all, err := k.addresses()
	if err != nil {
		return err
	}
	return k.ok(object{"addresses": all})
}

func showIPs(k *call) error {
	all, err := k.addresses()
	if err != nil {
		return err
	}
	name := k.Param("network")
	if _, ok := all[name]; !ok {
		return fault.New(fault.NotFound, "top/compute", "Instance is not a member of specified network")
	}
	return k.ok(object{name: all[name]})
}

func serverGroups(k *call) error {
	one, err := k.find()
	if err != nil {
		return err
	}
	names, err := k.h.service.GroupNames(k.ctx(), one.Spec.Groups)
	if err != nil {
		return err
	}
	out := []object{}
	for _, id := range one.Spec.Groups {
		out = append(out, object{"id": id, "name": names[id], "description": "", "tenant_id": one.ProjectID, "rules": []object{}})
	}
	return k.ok(object{"security_groups": out})
}
