package openflow

import "testing"

// FuzzFlowView reads any bytes as a flow of a dump: whatever they are, it stays within them.
func FuzzFlowView(f *testing.F) {
	raw, err := Append(nil, 0, &MultipartReply{Multipart{Kind: PartFlow, Body: &FlowStatsList{Flows: []FlowStats{
		{Table: 1, Priority: 2, Match: Match{}.Num(EthType, 0x800), Instructions: []Instruction{&InstrGoto{Table: 2}}}}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw[headerSize+8:])
	f.Fuzz(func(t *testing.T, raw []byte) {
		var v FlowView
		n, err := v.read(raw)
		if err != nil {
			return
		}
		if n < 48 || n > len(raw) || len(v.Match)+len(v.Instructions) > n {
			t.Errorf("%d of %d bytes, a match of %d and instructions of %d", n, len(raw), len(v.Match), len(v.Instructions))
		}
		if flow, err := v.Flow(); err == nil && (flow.Cookie != v.Cookie || flow.Table != v.Table || flow.Priority != v.Priority || flow.Packets != v.Packets) {
			t.Errorf("the view %+v is of %+v", v, flow)
		}
	})
}
