package flows

// circle is what there is to know of a unit that units may need in a circle: those of such units that need it. A unit that somebody else needs is needed; one that only they
// need is, if one of them is. So whether it still is takes a look at those behind it, up to the first whom somebody else needs, and not at all units.
type circle struct {
	may     bool // by its rule
	by      map[*unit]struct{}
	suspect bool // it is in Compiler.suspect
	dead    bool // used by sweep
}

// neededBy notes who needs a unit.
func (u *unit) neededBy(who *unit) {
	if !u.circle.may || !who.circle.may {
		return
	}
	if u.circle.by == nil {
		u.circle.by = map[*unit]struct{}{}
	}
	u.circle.by[who] = struct{}{}
}

// held says whether somebody else than units of circles needs a unit.
func (u *unit) held() bool { return u.needed > len(u.circle.by) }

// release takes the need of a unit, or of a root, away. What nobody needs goes; what still is needed may be so only by what it needs itself.
func (c *Compiler) release(u, who *unit) {
	u.needed--
	delete(u.circle.by, who)
	switch {
	case u.needed == 0:
		c.discard(u)
	case u.circle.may && !u.circle.suspect:
		u.circle.suspect = true
		c.suspect = append(c.suspect, u)
	}
}

// discard takes a unit away with all that it made. What the unit was the last to need goes too.
func (c *Compiler) discard(u *unit) {
	if c.units[u.key] != u {
		return
	}
	delete(c.units, u.key)
	u.dirty = false
	c.withdraw(u)
	needs := u.needs
	u.needs = nil
	for _, n := range needs {
		if !n.circle.dead {
			c.release(n, u)
		}
	}
}

// sweep discards the circles that nobody else needs.
func (c *Compiler) sweep() {
	for len(c.suspect) > 0 {
		u := c.suspect[len(c.suspect)-1]
		c.suspect = c.suspect[:len(c.suspect)-1]
		u.circle.suspect = false
		if c.units[u.key] != u {
			continue
		}
		behind := behind(u)
		for _, dead := range behind {
			dead.circle.dead = true // none of them is needed by others, and they need not let go of each other
		}
		for _, dead := range behind {
			c.discard(dead)
		}
	}
}

// behind are a unit and those who need it, over any number of units; none, where somebody else needs one of them.
func behind(u *unit) []*unit {
	if u.held() {
		return nil
	}
	seen := map[*unit]struct{}{u: {}}
	found := []*unit{u}
	for i := 0; i < len(found); i++ {
		for who := range found[i].circle.by {
			if who.held() {
				return nil
			}
			if _, again := seen[who]; !again {
				seen[who] = struct{}{}
				found = append(found, who)
			}
		}
	}
	return found
}
