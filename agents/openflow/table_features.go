package openflow

import "fmt"

// Kinds of a TableProperty (OpenFlow 1.3 section 7.3.5.5.2). The number above each, where it has a meaning, is about the flow that matches when no other does.
const (
	TableInstructions  uint16 = 0
	TableNext          uint16 = 2
	TableWriteActions  uint16 = 4
	TableApplyActions  uint16 = 6
	TableMatch         uint16 = 8
	TableWildcards     uint16 = 10
	TableWriteSetField uint16 = 12
	TableApplySetField uint16 = 14
)

type (
	// TableFeatures is what a table can do.
	TableFeatures struct {
		Table                        uint8
		Name                         string // up to 31 bytes
		MetadataMatch, MetadataWrite uint64
		Config, MaxEntries           uint32
		Properties                   []TableProperty
	}
	// TableFeaturesList asks for what tables can do, when it is empty, and is the answer.
	TableFeaturesList struct{ Tables []TableFeatures }
	// TableProperty is a list of what a table can do; which of the fields has it depends on Kind.
	TableProperty struct {
		Kind   uint16
		Tables []uint8     // of TableNext
		Types  []FeatureID // of instructions and actions
		Fields []FieldHead // of conditions and of SetField
		Data   []byte      // of an extension
	}
	// FeatureID is the number of an instruction or an action.
	FeatureID struct {
		Type   uint16
		Vendor uint32 // where Type is 0xffff
		Padded bool   // four bytes follow, as in the first editions of OpenFlow 1.3
	}
	// FieldHead is a field's header, and its vendor where the header's class is 0xffff.
	FieldHead struct{ Header, Vendor uint32 }
)

func (l *TableFeaturesList) code(c *coder) {
	list(c, &l.Tables, nil, func(c *coder, t *TableFeatures) { c.sized(0, 1, true, t.code) })
}

func (t *TableFeatures) code(c *coder) {
	c.length()
	c.u8(&t.Table)
	c.skip(5)
	c.text(&t.Name, 32)
	c.u64(&t.MetadataMatch)
	c.u64(&t.MetadataWrite)
	c.u32(&t.Config)
	c.u32(&t.MaxEntries)
	list(c, &t.Properties, nil, func(c *coder, p *TableProperty) { c.sized(2, 8, false, p.code) })
}

func (p *TableProperty) code(c *coder) {
	c.u16(&p.Kind)
	c.length()
	switch p.Kind &^ 1 {
	case TableNext:
		c.rest(&p.Tables)
	case TableInstructions, TableWriteActions, TableApplyActions:
		list(c, &p.Types, nil, func(c *coder, f *FeatureID) {
			c.sized(2, 1, true, func(c *coder) {
				c.u16(&f.Type)
				c.length()
				if c.reading {
					f.Padded = f.Type != experimenter && len(c.b) == 4
				}
				if f.Type == experimenter {
					c.u32(&f.Vendor)
				} else if f.Padded {
					c.pad(4)
				}
			})
		})
	case TableMatch, TableWildcards, TableWriteSetField, TableApplySetField:
		list(c, &p.Fields, nil, func(c *coder, f *FieldHead) {
			if c.u32(&f.Header); f.Header>>16 == classExp {
				c.u32(&f.Vendor)
			}
		})
	default:
		if p.Kind < 0xfffe {
			c.fail(fmt.Errorf("%w: table property %d", ErrType, p.Kind))
		}
		c.rest(&p.Data)
	}
}
