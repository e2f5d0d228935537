package compute

import (
	"hash/fnv"
	"net/http"
	"regexp"
	"strings"

	engine "github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/wire"
)

// keyUser is whose keypairs are asked for: the caller's, or another's for an administrator (2.10).
func (k *call) keyUser(asked string) (string, error) {
	if asked == "" || asked == k.caller.UserID || !k.v.AtLeast(10) {
		return k.caller.UserID, nil
	}
	if !k.caller.Admin() {
		return "", fault.New(fault.Forbidden, "top/compute", "Policy doesn't allow os_compute_api:os-keypairs to be performed.")
	}
	return asked, nil
}

func (k *call) keypair(p *engine.Keypair) object {
	o := object{"name": p.Name, "public_key": p.Spec.PublicKey, "fingerprint": p.Spec.Fingerprint}
	if k.v.AtLeast(2) {
		o["type"] = p.Spec.Type
	}
	return o
}

func listKeypairs(k *call) error {
	p := wire.Page{}
	var err error
	if k.v.AtLeast(35) {
		if p, err = k.page(); err != nil {
			return err
		}
	}
	user, err := k.keyUser(k.QueryParam("user_id"))
	if err != nil {
		return err
	}
	list, err := k.h.service.Keypairs(k.ctx(), user, p.Marker, p.Limit)
	if err != nil {
		return err
	}
	out := make([]object, len(list))
	for i, one := range list {
		out[i] = object{"keypair": k.keypair(one)}
	}
	body := object{"keypairs": out}
	if k.v.AtLeast(35) && len(list) > 0 {
		k.next(body, "keypairs", "os-keypairs", p, len(list), list[len(list)-1].Name)
	}
	return k.ok(body)
}

func showKeypair(k *call) error {
	user, err := k.keyUser(k.QueryParam("user_id"))
	if err != nil {
		return err
	}
	p, err := k.h.service.Keypair(k.ctx(), user, k.Param("name"))
	if err != nil {
		return err
	}
	o := k.keypair(p)
	o["user_id"], o["deleted"], o["deleted_at"], o["created_at"], o["updated_at"] = p.UserID, false, nil, wire.Micros(p.CreatedAt), nil
	o["id"] = smallID(string(p.ID))
	return k.ok(object{"keypair": o})
}

// smallID is a number that stays with an id, for members that hold Nova's row numbers.
func smallID(id string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // never fails
	return h.Sum32() & 0x7fffffff
}

var keyName = regexp.MustCompile(`^[a-zA-Z0-9 _-]+$`)

func createKeypair(k *call) error {
	m, err := k.object("keypair")
	if err != nil {
		return err
	}
	var name *string
	public, kind, user := "", "ssh", ""
	fields := []wire.Field{{Key: "name", Into: &name}, {Key: "public_key", Into: &public}}
	if k.v.AtLeast(2) {
		fields = append(fields, wire.Field{Key: "type", Into: &kind})
	}
	if k.v.AtLeast(10) {
		fields = append(fields, wire.Field{Key: "user_id", Into: &user})
	}
	if err := checkAll(m.TakeAll(fields...), closed(m), checkName("name", name)); err != nil {
		return err
	}
	switch {
	case name == nil:
		return wire.BadRequest("Invalid input for field/attribute keypair. 'name' is a required property")
	case kind != "ssh" && kind != "x509":
		return wire.Invalid("type", kind)
	case public == "" && k.v.AtLeast(92):
		return wire.BadRequest("Invalid input for field/attribute keypair. 'public_key' is a required property")
	case public != "" && strings.TrimSpace(public) == "":
		return wire.BadRequest("Keypair data is invalid: failed to generate fingerprint")
	case !k.v.AtLeast(92) && !keyName.MatchString(*name):
		return wire.BadRequest("Keypair data is invalid: Keypair name contains unsafe characters")
	}
	if user, err = k.keyUser(user); err != nil {
		return err
	}
	p, private, err := k.h.service.CreateKeypair(k.ctx(), k.caller, user, *name, kind, public)
	if err != nil {
		return err
	}
	o := k.keypair(p)
	o["user_id"] = p.UserID
	if private != "" {
		o["private_key"] = private.Reveal()
	}
	status := http.StatusOK
	if k.v.AtLeast(2) {
		status = http.StatusCreated
	}
	return k.JSON(status, object{"keypair": o})
}

func deleteKeypair(k *call) error {
	user, err := k.keyUser(k.QueryParam("user_id"))
	if err != nil {
		return err
	}
	if err := k.h.service.DeleteKeypair(k.ctx(), k.caller, user, k.Param("name")); err != nil {
		return err
	}
	if k.v.AtLeast(2) {
		return k.NoContent(http.StatusNoContent)
	}
	return k.accepted()
}
