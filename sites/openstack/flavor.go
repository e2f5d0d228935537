package openstack

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// EnsureFlavor implements sites.FlavorMaker.
func (a *Adaptor) EnsureFlavor(ctx context.Context, f sites.FlavorInfo, projects ...string) (ident.BottomID, error) {
	const op = "sites/openstack.EnsureFlavor"
	found, err := a.flavorNamed(ctx, f.Name)
	if err != nil {
		return "", err
	}
	if found.ID == "" {
		if found, err = a.makeFlavor(ctx, f); err != nil {
			return "", fmt.Errorf("make flavor %s: %w", f.Name, err)
		}
	}
	if !sameSize(found, f) {
		return "", &fault.Error{Op: op, Site: string(a.site), Kind: fault.Conflict, Msg: fmt.Sprintf("the site has a flavor %s of another size", f.Name)}
	}
	if len(f.Extra) > 0 {
		_, err := a.doJSON(ctx, &call{op: op, service: sites.Compute, method: http.MethodPost, path: "flavors/" + string(found.ID) + "/os-extra_specs",
			body: sites.Body{"extra_specs": f.Extra}, idempotent: true})
		if err != nil {
			return "", fmt.Errorf("set extra specs of flavor %s: %w", f.Name, err)
		}
	}
	for _, project := range projects {
		if found.Public {
			break
		}
		_, err := a.doJSON(ctx, &call{op: op, service: sites.Compute, method: http.MethodPost, path: "flavors/" + string(found.ID) + "/action",
			body: sites.Body{"addTenantAccess": sites.Body{"tenant": project}}, idempotent: true})
		if err != nil && !fault.Is(err, fault.Conflict) { // it has access already
			return "", fmt.Errorf("give project %s flavor %s: %w", project, f.Name, err)
		}
	}
	return found.ID, nil
}

// makeFlavor creates a flavor, or finds it when another made it first.
func (a *Adaptor) makeFlavor(ctx context.Context, f sites.FlavorInfo) (sites.FlavorInfo, error) {
	body := sites.Body{"name": f.Name, "vcpus": f.VCPUs, "ram": f.RAM, "disk": f.Disk, "OS-FLV-EXT-DATA:ephemeral": f.Ephemeral, "swap": f.Swap,
		"os-flavor-access:is_public": f.Public} // without an id the site makes one; "auto" is the client's word, and would be the id itself
	if f.ID != "" {
		body["id"] = string(f.ID)
	}
	if f.RxTxFactor > 0 {
		body["rxtx_factor"] = f.RxTxFactor
	}
	made, err := a.Create(ctx, sites.Flavor, body, sites.CreateOptions{})
	if fault.Is(err, fault.Conflict) || fault.Is(err, fault.Ambiguous) {
		if found, again := a.flavorNamed(ctx, f.Name); again == nil && found.ID != "" {
			return found, nil
		}
	}
	if err != nil {
		return sites.FlavorInfo{}, err
	}
	return readFlavor(made), nil
}

// flavorNamed finds a flavor by its name, public or not.
func (a *Adaptor) flavorNamed(ctx context.Context, name string) (found sites.FlavorInfo, err error) {
	err = a.List(ctx, sites.Flavor, sites.Query{AllProjects: true}, func(o sites.Object) error {
		if o.Text("name") == name {
			found = readFlavor(o)
		}
		return nil
	})
	return found, err
}

func sameSize(x, y sites.FlavorInfo) bool {
	return x.VCPUs == y.VCPUs && x.RAM == y.RAM && x.Disk == y.Disk && x.Ephemeral == y.Ephemeral && x.Swap == y.Swap
}

// readFlavor reads a flavor as any microversion shows it.
func readFlavor(o sites.Object) sites.FlavorInfo {
	f := sites.FlavorInfo{ID: o.ID, Name: o.Text("name"), VCPUs: number(o.Body["vcpus"]), RAM: number(o.Body["ram"]), Disk: number(o.Body["disk"]),
		Ephemeral: number(o.Body["OS-FLV-EXT-DATA:ephemeral"]), Swap: number(o.Body["swap"]), RxTxFactor: 1, Public: true}
	if public, ok := o.Body["os-flavor-access:is_public"].(bool); ok {
		f.Public = public
	}
	if factor, err := strconv.ParseFloat(fmt.Sprint(o.Body["rxtx_factor"]), 64); err == nil {
		f.RxTxFactor = factor
	}
	if specs, ok := o.Body["extra_specs"].(map[string]any); ok {
		f.Extra = map[string]string{}
		for key, value := range specs {
			f.Extra[key] = str(value)
		}
	}
	return f
}

// number reads a whole number as services write it: a JSON number, a text ("512"), or "" (swap of old) for 0.
func number(v any) int {
	var text string
	switch n := v.(type) {
	case json.Number:
		text = n.String()
	case string:
		text = n
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(f) || math.Abs(f) > math.MaxInt32 {
		return 0
	}
	return int(f)
}
