package members

// Forwarder chooses one of the members for a network by its key: the one with the highest random weight (Thaler and Ravishankar, 1996). Whoever
// asks with the same members gets the same answer, in any order of them; when one goes, only its networks go to others, and when one comes, it
// takes an equal share from each. It returns false for no members. What the members are and how they feel is for the caller to look at:
// View.Gateways does.
func Forwarder(network uint32, among []Member) (ID, bool) {
	var best ID
	var most uint64
	for i := range among {
		id := among[i].ID
		w := weight(network, id)
		if i == 0 || w > most || w == most && id.Compare(best) < 0 {
			best, most = id, w
		}
	}
	return best, len(among) > 0
}

// weight is the same on every machine and in every version: the FNV-1a hash of the id, scrambled with the key. FNV alone would do little
// with the last bytes, in which the names of hosts differ.
func weight(network uint32, id ID) uint64 {
	h := uint64(0xcbf29ce484222325)
	for _, s := range []string{string(id.Site), "/", id.Host} {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * 0x100000001b3
		}
	}
	return scramble(h ^ scramble(uint64(network)+0x9e3779b97f4a7c15))
}

// scramble is the finalizer of SplitMix64 (Steele, Lea and Flood, 2014): each bit of x decides half of the result's.
func scramble(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
