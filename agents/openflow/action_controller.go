package openflow

// Reasons of a packet-in.
const (
	ReasonNoMatch    uint8 = 0
	ReasonAction     uint8 = 1
	ReasonInvalidTTL uint8 = 2
)

// NoLimit is Controller.MaxLen and Output.MaxLen for whole packets.
const NoLimit = 0xffff

// Controller sends the packet to the controller with some bytes of its own, and with Pause stops it until a Resume.
type Controller struct {
	MaxLen   uint16 // bytes of it; NoLimit: all
	ID       uint16 // which controller; 0 unless one has set its id
	Reason   uint8  // ReasonAction, as a rule
	UserData []byte
	Pause    bool
	Meter    uint32 // 0: none
	Short    bool   // the older form, which has no room for UserData, Pause and Meter
}

func (a *Controller) kind() actionKind {
	if a.Short {
		return nx(20)
	}
	return nx(37)
}

// The properties of controller2 (nicira-ext.h, NXAC2PT).
func (a *Controller) code(c *coder) {
	if a.Short {
		c.u16(&a.MaxLen)
		c.u16(&a.ID)
		c.u8(&a.Reason)
		c.skip(1)
		return
	}
	c.skip(6)
	props := []property{
		{0, a.MaxLen != NoLimit, func(c *coder) { c.u16(&a.MaxLen); c.skip(2) }},
		{1, a.ID != 0, func(c *coder) { c.u16(&a.ID); c.skip(2) }},
		{2, a.Reason != ReasonAction, func(c *coder) { c.u8(&a.Reason) }},
		{3, len(a.UserData) > 0, func(c *coder) { c.rest(&a.UserData) }},
		{4, a.Pause, func(c *coder) {
			if c.reading {
				a.Pause = true
			}
		}},
		{5, a.Meter != 0, func(c *coder) { c.u32(&a.Meter) }},
	}
	if !c.reading {
		codeProperties(c, props)
		return
	}
	a.MaxLen, a.Reason = NoLimit, ReasonAction
	codeProperties(c, props)
}

// property is one of a list of properties, each with its type and its length, and zeros after it up to a multiple of 8.
type property struct {
	kind    uint16
	present bool // when writing
	code    func(c *coder)
}

func codeProperties(c *coder, known []property) {
	if !c.reading {
		for _, p := range known {
			if p.present {
				c.sized(2, 8, false, func(c *coder) { c.u16(&p.kind); c.length(); p.code(c) })
			}
		}
		return
	}
	for len(c.b) > 0 && c.err == nil {
		c.sized(2, 8, false, func(c *coder) {
			var kind uint16
			c.u16(&kind)
			c.length()
			for _, p := range known {
				if p.kind == kind {
					p.code(c)
					return
				}
			}
			c.take(len(c.b)) // of a later version
		})
	}
}
