package compute

import (
	"context"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Resize gives a server another flavor. It shows the new one at once; what the site takes back shows later.
func (s *Service) Resize(ctx context.Context, caller sites.Caller, id, flavor, diskConfig string) error {
	one, err := s.Server(ctx, caller, id)
	if err != nil {
		return err
	}
	f, err := s.Flavor(ctx, caller, flavor)
	if fault.Is(err, fault.NotFound) {
		return badRequest("Unable to find flavor: Flavor %s could not be found.", flavor)
	}
	if err != nil {
		return err
	}
	if f.ID == one.FlavorID {
		return badRequest("When resizing, instances must change flavor!")
	}
	if one.ImageID != "" && f.Spec.Disk < one.Spec.Disk && f.Spec.Disk == 0 {
		return badRequest("Resize to zero disk flavor is not allowed.")
	}
	if err := s.bring(ctx, caller, one, "resize", f.ID); err != nil {
		return err
	}
	was := one.Spec.DiskConfig
	_, err = s.run(ctx, caller, one, act{
		rule: "resize",
		begin: func(tx *cascade.Tx, one *Server) error {
			if diskConfig != "" {
				one.Spec.DiskConfig = diskConfig
			}
			return s.takeFlavor(tx, one, f)
		},
		call: func(ctx context.Context, at cascade.At, bottom ident.BottomID) (sites.Request, error) {
			there, err := at.Bottom(ctx, f.ID)
			if err != nil {
				return sites.Request{}, err
			}
			if err := s.grantFlavor(ctx, f.ID, at); err != nil {
				return sites.Request{}, err
			}
			args := sites.Body{"flavorRef": string(there)}
			if diskConfig != "" {
				args["OS-DCF:diskConfig"] = diskConfig
			}
			return actionRequest(bottom, "resize", args), nil
		},
		undo: func(tx *cascade.Tx, one *Server) error {
			one.Spec.DiskConfig = was
			return s.leaveFlavor(tx, one)
		},
	})
	return err
}

func (s *Service) takeFlavor(tx *cascade.Tx, one *Server, f *Flavor) error {
	if err := tx.Quota(one.ProjectID, map[string]int64{"cores": f.Spec.VCPUs - one.Spec.VCPUs, "ram": f.Spec.RAM - one.Spec.RAM}); err != nil {
		return err
	}
	one.Spec.OldFlavor = &OldFlavor{ID: one.FlavorID, Size: one.Spec.Size, Name: one.Spec.FlavorName, Specs: one.Spec.FlavorSpecs}
	one.FlavorID, one.Spec.Size, one.Spec.FlavorName, one.Spec.FlavorSpecs = f.ID, f.Spec.Size, f.Name, f.Spec.Extra
	return s.core.Index.SetRefs(tx.Tx, one.ID, roleFlavor, f.ID)
}

// leaveFlavor undoes takeFlavor.
func (s *Service) leaveFlavor(tx *cascade.Tx, one *Server) error {
	old := one.Spec.OldFlavor
	if old == nil {
		return nil
	}
	if err := tx.Quota(one.ProjectID, map[string]int64{"cores": old.Size.VCPUs - one.Spec.VCPUs, "ram": old.Size.RAM - one.Spec.RAM}); err != nil {
		return err
	}
	one.goBack()
	return s.core.Index.SetRefs(tx.Tx, one.ID, roleFlavor, one.FlavorID)
}

// ConfirmResize ends a resize for good.
func (s *Service) ConfirmResize(ctx context.Context, caller sites.Caller, id string) error {
	one, err := s.Server(ctx, caller, id)
	if err != nil {
		return err
	}
	_, err = s.run(ctx, caller, one, act{
		rule: "confirmResize", call: action("confirmResize", nil),
		// Nova shows VERIFY_RESIZE without a task until the confirm is done.
		begin: func(_ *cascade.Tx, one *Server) error { one.Spec.Leaving = one.Status; return nil },
		done:  func(_ *cascade.Tx, one *Server, _ sites.Reply) error { one.Spec.OldFlavor = nil; return nil },
		undo:  func(_ *cascade.Tx, one *Server) error { one.Spec.Leaving = ""; return nil },
	})
	return err
}

// RevertResize takes a resize back.
func (s *Service) RevertResize(ctx context.Context, caller sites.Caller, id string) error {
	one, err := s.Server(ctx, caller, id)
	if err != nil {
		return err
	}
	_, err = s.run(ctx, caller, one, act{
		rule: "revertResize", call: action("revertResize", nil),
		done: func(tx *cascade.Tx, one *Server, _ sites.Reply) error { return s.leaveFlavor(tx, one) },
	})
	return err
}

// Rebuild is what a rebuild may change; nil members stay.
type Rebuild struct {
	Image        string
	AdminPass    string
	Name         *string
	Description  **string
	Metadata     map[string]string // nil stays
	KeyName      **string
	UserData     **string
	DiskConfig   *string
	AccessIPv4   *string
	AccessIPv6   *string
	Hostname     *string
	TrustedCerts *[]string
	// Ephemeral is preserve_ephemeral.
	Ephemeral *bool
	// Reimage lets a boot volume be written again (2.93).
	Reimage     bool
	Personality []File
	Extra       sites.Body
}

// RebuildServer makes a server anew from an image. It returns the server as accepted, and its password.
func (s *Service) RebuildServer(ctx context.Context, caller sites.Caller, id string, b Rebuild) (*Server, string, error) {
	one, err := s.Server(ctx, caller, id)
	if err != nil {
		return nil, "", err
	}
	image, err := s.usableImage(ctx, caller, b.Image)
	if err != nil {
		return nil, "", err
	}
	if len(b.Personality) > 0 {
		return nil, "", badRequest("Files cannot be injected by a rebuild: use user data.")
	}
	if b.AdminPass == "" {
		b.AdminPass = password()
	}
	key, err := s.rebuildKey(ctx, caller, one, b)
	if err != nil {
		return nil, "", err
	}
	w := Waiting{Rule: "rebuild", Image: image.ID, Key: key, Rebuild: &b}
	w.former(one)
	if err := s.runOrWait(ctx, caller, one, w, s.rebuildAct(w)); err != nil {
		return nil, "", err
	}
	one, err = s.Server(ctx, caller, id)
	return one, b.AdminPass, err
}

func (s *Service) rebuildAct(w Waiting) act {
	b, before := w.Rebuild, w.Before
	return act{
		rule:  "rebuild",
		begin: func(_ *cascade.Tx, one *Server) error { b.apply(one, w.Image, w.Key); return nil },
		call: func(ctx context.Context, at cascade.At, bottom ident.BottomID) (sites.Request, error) {
			args, err := b.body(ctx, at, w.Image, w.Key)
			req := actionRequest(bottom, "rebuild", args)
			if !b.Reimage { // from 2.93 on a rebuild writes boot volumes anew
				req.Microversion = s.rebuildVersion(ctx, at.Site)
			}
			return req, err
		},
		undo: func(_ *cascade.Tx, one *Server) error {
			before.restore(one)
			return nil
		},
	}
}

// rebuildVersion is the newest microversion before 2.93 that the site speaks; "" is the adaptor's choice.
func (s *Service) rebuildVersion(ctx context.Context, site ident.SiteID) string {
	all, err := s.registry.Sites(ctx)
	if err != nil {
		return ""
	}
	for i := range all {
		if all[i].Name == site && !Version(all[i].Capabilities.Services[sites.Compute].MaxMicroversion).less("2.93") {
			return "2.92"
		}
	}
	return ""
}

func (s *Service) rebuildKey(ctx context.Context, caller sites.Caller, one *Server, b Rebuild) (ident.TopID, error) {
	if b.KeyName == nil || *b.KeyName == nil {
		return "", nil
	}
	k, err := s.Keypair(ctx, caller.UserID, **b.KeyName)
	if fault.Is(err, fault.NotFound) {
		return "", badRequest("Invalid key_name provided.")
	}
	if err != nil {
		return "", err
	}
	var row *index.Resource
	err = s.core.Internal(ctx, func(tx *cascade.Tx) error {
		row, err = s.keyFor(tx, k.Resource, one.ProjectID)
		return err
	})
	if err != nil {
		return "", err
	}
	return row.ID, nil
}

func (b *Rebuild) apply(one *Server, image, key ident.TopID) {
	if one.ImageID != "" {
		one.ImageID = image
	}
	for _, m := range []struct{ to, from *string }{
		{&one.Name, b.Name}, {&one.Spec.Hostname, b.Hostname}, {&one.Spec.AccessIPv4, b.AccessIPv4},
		{&one.Spec.AccessIPv6, b.AccessIPv6}, {&one.Spec.DiskConfig, b.DiskConfig},
	} {
		if m.from != nil {
			*m.to = *m.from
		}
	}
	if b.Description != nil {
		one.Spec.Description = *b.Description
	}
	if b.Metadata != nil {
		one.Spec.Metadata = b.Metadata
	}
	if b.UserData != nil {
		one.Spec.UserData = ""
		if *b.UserData != nil {
			one.Spec.UserData = **b.UserData
		}
	}
	if b.KeyName != nil {
		one.KeyName, one.Spec.Keypair = "", key
		if *b.KeyName != nil {
			one.KeyName = **b.KeyName
		}
	}
	if b.TrustedCerts != nil {
		one.Spec.TrustedCerts = *b.TrustedCerts
	}
}

func (b *Rebuild) body(ctx context.Context, at cascade.At, image, key ident.TopID) (sites.Body, error) {
	there, err := at.Bottom(ctx, image)
	if err != nil {
		return nil, err
	}
	args := sites.Body{"imageRef": string(there), "adminPass": b.AdminPass}
	for k, v := range b.Extra {
		args[k] = v
	}
	for k, v := range map[string]*string{"name": b.Name, "hostname": b.Hostname, "accessIPv4": b.AccessIPv4, "accessIPv6": b.AccessIPv6, "OS-DCF:diskConfig": b.DiskConfig} {
		if v != nil {
			args[k] = *v
		}
	}
	for k, v := range map[string]**string{"description": b.Description, "user_data": b.UserData, "key_name": b.KeyName} {
		switch {
		case v == nil:
		case *v == nil:
			args[k] = nil
		default:
			args[k] = **v
		}
	}
	if key != "" {
		k, err := at.Bottom(ctx, key)
		if err != nil {
			return nil, err
		}
		args["key_name"] = string(k)
	}
	if b.Metadata != nil {
		args["metadata"] = b.Metadata
	}
	if b.TrustedCerts != nil {
		args["trusted_image_certificates"] = *b.TrustedCerts
	}
	if b.Ephemeral != nil {
		args["preserve_ephemeral"] = *b.Ephemeral
	}
	return args, nil
}
