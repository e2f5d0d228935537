package compute

import (
	"context"
	"crypto/rand"
	"fmt"
	"math/big"
	"strings"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/placement"
	"github.com/headwater-cloud/headwater/cascade/quota"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// The roles of a server's references.
const (
	roleImage   = "image"
	roleFlavor  = "flavor"
	rolePort    = "port"
	roleGroup   = "group"
	roleVolume  = "volume"
	roleKeypair = "keypair"
	roleMember  = "server_group"
)

// plan is a request with its references found and its site chosen.
type plan struct {
	req      CreateRequest
	caller   sites.Caller
	flavor   *Flavor
	image    *index.Resource // nil when a block device boots
	mapped   *index.Resource // image whose block devices boot
	keypair  *index.Resource
	member   *index.Resource // server group
	networks []wantedNetwork
	blocks   []wantedBlock
	decision placement.Decision
}

func badRequest(format string, args ...any) error {
	return fault.New(fault.BadRequest, "cascade/compute.CreateServers", format, args...)
}

// CreateServers records servers, each with its ports, references and quota, and
// the jobs that make them. Errors are those with which Nova answers POST /servers.
func (s *Service) CreateServers(ctx context.Context, caller sites.Caller, req CreateRequest) ([]*Server, error) {
	if req.AdminPass == "" {
		req.AdminPass = password()
	}
	var made []*Server
	for attempt := 0; ; attempt++ {
		p, err := s.plan(ctx, caller, req)
		if err != nil {
			return nil, err
		}
		made, err = s.record(ctx, p)
		// A network may have been placed elsewhere between the choice and its record: choose again, now tied to it.
		if err == nil || attempt > 0 || !fault.Is(err, fault.Conflict) {
			return made, err
		}
	}
}

// record commits as many servers as the quota allows, from Max down to Min.
func (s *Service) record(ctx context.Context, p *plan) ([]*Server, error) {
	count, err := s.affordable(ctx, p)
	if err != nil {
		return nil, err
	}
	for ; ; count-- {
		made, err := s.recordExactly(ctx, p, count)
		if count > p.req.Min && fault.Is(err, fault.OverQuota) {
			continue // others took of the quota meanwhile
		}
		return made, err
	}
}

// affordable is how many servers of the plan the quota has room for now; fault.OverQuota when that is less than Min.
func (s *Service) affordable(ctx context.Context, p *plan) (int, error) {
	figures, err := s.core.Quota.Figures(ctx, p.caller.ProjectID)
	if err != nil {
		return 0, err
	}
	count := p.req.Max
	size := p.flavor.Spec.Size
	for resource, each := range map[string]int64{"instances": 1, "cores": size.VCPUs, "ram": size.RAM} {
		f := figures[resource]
		if f.Limit < 0 || each == 0 {
			continue
		}
		room := max(f.Limit-f.Used, 0) / each
		if room < int64(p.req.Min) {
			return 0, &quota.OverQuota{Resource: resource, Requested: each * int64(p.req.Min), Used: f.Used, Limit: f.Limit}
		}
		count = min(count, int(room))
	}
	return count, nil
}

func (s *Service) recordExactly(ctx context.Context, p *plan, count int) ([]*Server, error) {
	var made []*Server
	err := s.core.Commit(ctx, p.caller, "server.create", func(tx *cascade.Tx) error {
		made = nil
		reservation := "r-" + lowerToken(8)
		for i := range count {
			one, err := s.insertServer(tx, p, i, count, reservation)
			if err != nil {
				return err
			}
			made = append(made, one)
		}
		return nil
	})
	return made, err
}

func (s *Service) insertServer(tx *cascade.Tx, p *plan, i, count int, reservation string) (*Server, error) {
	one := newServer(p, i, count, reservation)
	groups, err := s.groupsFor(tx, p)
	if err != nil {
		return nil, err
	}
	one.Spec.Groups = groups
	if p.keypair != nil {
		key, err := s.keyFor(tx, p.keypair, p.caller.ProjectID)
		if err != nil {
			return nil, err
		}
		one.Spec.Keypair = key.ID
	}
	if err := s.giveBlocks(tx, p, one); err != nil {
		return nil, err
	}
	if err := s.givePorts(tx, p, one); err != nil {
		return nil, err
	}
	if err := one.encode(); err != nil {
		return nil, err
	}
	if err := tx.Insert(one.Resource, refsOf(one)...); err != nil {
		return nil, err
	}
	_, err = tx.Make(one.Resource)
	return one, err
}

func newServer(p *plan, i, count int, reservation string) *Server {
	name := p.req.Name
	if count > 1 {
		name = fmt.Sprintf("%s-%d", name, i+1)
	}
	r := index.New(sites.Server, p.caller, name)
	r.Site, r.Zone, r.FlavorID, r.KeyName = p.decision.Site, p.req.Zone, p.flavor.ID, p.req.KeyName
	r.Status, r.TaskState = "BUILD", "scheduling"
	one := &Server{Resource: r, Spec: ServerSpec{
		Size: p.flavor.Spec.Size, FlavorName: p.flavor.Name, FlavorSpecs: p.flavor.Spec.Extra,
		Metadata: p.req.Metadata, Tags: p.req.Tags, Description: p.req.Description, BottomZone: p.decision.BottomZone,
		UserData: p.req.UserData, ConfigDrive: p.req.ConfigDrive, DiskConfig: p.req.DiskConfig, Hostname: p.req.Hostname,
		TrustedCerts: p.req.TrustedCerts, Hints: p.req.Hints, AccessIPv4: p.req.AccessIPv4, AccessIPv6: p.req.AccessIPv6,
		Reservation: reservation, LaunchIndex: i, AdminPass: p.req.AdminPass, Personality: p.req.Personality, Extra: p.req.Extra,
		NoNetwork: len(p.networks) == 0,
	}}
	if p.image != nil {
		r.ImageID = p.image.ID
	}
	if p.member != nil {
		one.Spec.ServerGroup = p.member.ID
	}
	return one
}

func refsOf(one *Server) []index.Ref {
	refs := []index.Ref{{To: one.FlavorID, Role: roleFlavor}}
	add := func(role string, id ident.TopID) {
		if id != "" {
			refs = append(refs, index.Ref{To: id, Role: role})
		}
	}
	add(roleImage, one.ImageID)
	add(roleKeypair, one.Spec.Keypair)
	add(roleMember, one.Spec.ServerGroup)
	for _, g := range one.Spec.Groups {
		add(roleGroup, g)
	}
	for _, v := range one.Spec.Volumes {
		add(roleVolume, v.ID)
	}
	for _, p := range one.Spec.Ports {
		add(rolePort, p.ID)
	}
	return refs
}

// plan finds what the request refers to, checks it as Nova does, and chooses the site.
func (s *Service) plan(ctx context.Context, caller sites.Caller, req CreateRequest) (*plan, error) {
	p := &plan{req: req, caller: caller}
	if len(req.Metadata) > maxMetadata {
		return nil, fault.New(fault.OverQuota, "cascade/compute.CreateServers", "Maximum number of metadata items exceeds %d", maxMetadata)
	}
	if req.Max > 1 && req.Hostname != "" {
		return nil, badRequest("Unable to allocate a single hostname to multiple instances. Omit the hostname or create servers one by one.")
	}
	for _, step := range []func(context.Context, *plan) error{s.planFlavor, s.planImage, s.planMapping, s.planKeypair, s.planGroup, s.planNetworks, s.planBlocks, s.planSize} {
		if err := step(ctx, p); err != nil {
			return nil, err
		}
	}
	want, err := s.want(ctx, p)
	if err != nil {
		return nil, err
	}
	if p.decision, err = s.placer.Choose(ctx, want); err != nil {
		return nil, err
	}
	return p, s.reachable(ctx, p)
}

// Explain decides on a create request's site by the code that a create uses, and records nothing. That no site can take
// it is no error.
func (s *Service) Explain(ctx context.Context, caller sites.Caller, req CreateRequest, by Explainer) (placement.Explanation, error) {
	p := &plan{req: req, caller: caller}
	for _, step := range []func(context.Context, *plan) error{s.planFlavor, s.planImage, s.planMapping, s.planGroup, s.planNetworks, s.planBlocks} {
		if err := step(ctx, p); err != nil {
			return placement.Explanation{}, err
		}
	}
	want, err := s.want(ctx, p)
	if err != nil {
		return placement.Explanation{}, err
	}
	return placement.Explained(by.Explain(ctx, want))
}

func (s *Service) planFlavor(ctx context.Context, p *plan) error {
	f, err := s.Flavor(ctx, p.caller, p.req.Flavor)
	if fault.Is(err, fault.NotFound) {
		return badRequest("Flavor %s could not be found.", p.req.Flavor)
	}
	p.flavor = f
	return err
}

func (s *Service) planImage(ctx context.Context, p *plan) error {
	ref := p.req.Image
	for _, b := range p.req.Blocks {
		if ref == "" && b.Source == "image" && b.Destination != "volume" && b.BootIndex != nil && *b.BootIndex == 0 {
			ref = b.ID
		}
	}
	if ref == "" {
		if len(p.req.Blocks) == 0 {
			return badRequest("Missing imageRef attribute")
		}
		return nil
	}
	image, err := s.usableImage(ctx, p.caller, ref)
	if err != nil {
		return err
	}
	p.image = image
	member := p.caller
	member.Roles = []string{"member"}
	if _, err = s.findImage(ctx, member, ref); fault.Is(err, fault.NotFound) {
		return foreign(p, image)
	}
	return err
}

// usableImage finds an image that servers can be made from.
func (s *Service) usableImage(ctx context.Context, caller sites.Caller, ref string) (*index.Resource, error) {
	image, err := s.findImage(ctx, caller, ref)
	if fault.Is(err, fault.NotFound) {
		return nil, badRequest("Can not find requested image")
	}
	if err == nil && image.Status != "active" {
		return nil, badRequest("Image %s is not active.", ref)
	}
	return image, err
}

func (s *Service) findImage(ctx context.Context, caller sites.Caller, id string) (*index.Resource, error) {
	if s.images != nil {
		return s.images.Find(ctx, caller, id)
	}
	return s.core.Index.Find(ctx, caller, sites.Image, id)
}

func (s *Service) planKeypair(ctx context.Context, p *plan) error {
	if p.req.KeyName == "" {
		return nil
	}
	k, err := s.Keypair(ctx, p.caller.UserID, p.req.KeyName)
	if fault.Is(err, fault.NotFound) {
		return badRequest("Invalid key_name provided.")
	}
	if err == nil {
		p.keypair = k.Resource
	}
	return err
}

// planGroup takes the hint "group" out of the hints: it is a reference, and the site knows it by another id.
func (s *Service) planGroup(ctx context.Context, p *plan) error {
	id, ok := p.req.Hints["group"].(string)
	if !ok {
		return nil
	}
	g, err := s.core.Index.Find(ctx, p.caller, sites.ServerGroup, id)
	if fault.Is(err, fault.NotFound) || err == nil && g.ProjectID != p.caller.ProjectID {
		return badRequest("Instance group %s could not be found.", id)
	}
	if err != nil {
		return err
	}
	if err := s.roomInGroup(ctx, p, g); err != nil {
		return err
	}
	p.member = g
	rest := sites.Body{}
	for k, v := range p.req.Hints {
		if k != "group" {
			rest[k] = v
		}
	}
	p.req.Hints = rest
	return nil
}

// roomInGroup checks the quota of a server group's members.
func (s *Service) roomInGroup(ctx context.Context, p *plan, r *index.Resource) error {
	g, err := s.group(ctx, r)
	if err != nil {
		return err
	}
	figures, err := s.core.Quota.Figures(ctx, p.caller.ProjectID)
	if err != nil {
		return err
	}
	if most := figures["server_group_members"].Limit; most >= 0 && int64(len(g.Members)+p.req.Min) > most {
		return fault.New(fault.OverQuota, "cascade/compute.CreateServers", "Quota exceeded, too many servers in group")
	}
	return nil
}

// planSize checks the flavor against the image and the block devices.
func (s *Service) planSize(_ context.Context, p *plan) error {
	image := p.image
	if image == nil {
		image = p.mapped
	}
	if image == nil {
		return nil
	}
	facts := imageFacts(image)
	size := p.flavor.Spec.Size
	if facts.minRAM > size.RAM {
		return badRequest("Flavor's memory is too small for requested image.")
	}
	if p.bootsFromVolume() || size.Disk == 0 {
		return nil
	}
	if facts.minDisk > size.Disk {
		return badRequest("Flavor's disk is smaller than the minimum size specified in image metadata. Flavor disk is %d bytes, minimum size is %d bytes.", size.Disk<<30, facts.minDisk<<30)
	}
	if facts.bytes > size.Disk<<30 {
		return badRequest("Flavor's disk is too small for requested image. Flavor disk is %d bytes, image is %d bytes.", size.Disk<<30, facts.bytes)
	}
	return nil
}

func (p *plan) bootsFromVolume() bool {
	for _, b := range p.blocks {
		if b.Block.BootIndex != nil && *b.Block.BootIndex == 0 && b.Block.Destination == "volume" {
			return true
		}
	}
	return false
}

// want is the request in the words of placement.
func (s *Service) want(ctx context.Context, p *plan) (placement.Want, error) {
	n := int64(max(p.req.Max, 1))
	size := p.flavor.Spec.Size
	w := placement.Want{
		Caller: p.caller, Zone: p.req.Zone, Service: sites.Compute, Flavor: p.flavor.ID,
		VCPUs: n * size.VCPUs, RAMMiB: n * size.RAM, DiskGiB: n * size.Disk,
	}
	if spread, _ := p.req.Hints["headwater:spread"].(string); spread != "" && !strings.EqualFold(spread, "false") {
		w.Spread = true
	}
	if p.image != nil {
		w.Image = p.image.ID
	}
	for _, n := range p.networks {
		tie, err := s.tie(ctx, n.row())
		if err != nil {
			return w, err
		}
		w.Ties = append(w.Ties, tie)
	}
	for _, b := range p.blocks {
		if b.row != nil {
			w.Ties = append(w.Ties, placement.Tie{ID: b.row.ID, Kind: b.row.Kind, Site: b.row.Site})
		}
	}
	if p.member != nil {
		ties, err := s.memberTies(ctx, p.member)
		if err != nil {
			return w, err
		}
		w.Ties = append(w.Ties, ties...)
	}
	return w, nil
}

// tie is where a network or port is; one that belongs to no project is wherever it is bound.
func (s *Service) tie(ctx context.Context, r *index.Resource) (placement.Tie, error) {
	t := placement.Tie{ID: r.ID, Kind: r.Kind, Site: r.Site}
	if t.Site != "" || r.ProjectID != "" {
		return t, nil
	}
	bound, err := s.core.Bindings.OfTop(ctx, r.ID)
	for _, b := range bound {
		if b.Known() {
			t.Any = append(t.Any, b.Site)
		}
	}
	if len(t.Any) == 1 {
		t.Site, t.Any = t.Any[0], nil
	}
	return t, err
}

// reachable makes sure that shared networks, which Top cannot make, are at the chosen site.
func (s *Service) reachable(ctx context.Context, p *plan) error {
	for _, n := range p.networks {
		r := n.row()
		if r.ProjectID != "" {
			continue
		}
		b, err := s.core.Bindings.Get(ctx, r.ID, p.decision.Site)
		if err != nil {
			return err
		}
		if !b.Known() {
			return fault.New(fault.Conflict, "cascade/compute.CreateServers", "%s %s is not at site %s, where the server would go.", r.Kind, r.ID, p.decision.Site)
		}
	}
	return nil
}

// password returns a random password in the form of Nova's: 12 letters and digits.
func password() string {
	const symbols = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
	return token(symbols, 12)
}

func lowerToken(n int) string { return token("abcdefghijklmnopqrstuvwxyz0123456789", n) }

func token(symbols string, n int) string {
	var b strings.Builder
	for range n {
		i, err := rand.Int(rand.Reader, big.NewInt(int64(len(symbols))))
		if err != nil {
			panic(err) // never: crypto/rand ends the program instead
		}
		b.WriteByte(symbols[i.Int64()])
	}
	return b.String()
}
