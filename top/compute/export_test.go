package compute

// Routes lists method, path and rule of every route, for the tests that walk them.
func Routes() [][3]string {
	var out [][3]string
	for _, r := range routes() {
		out = append(out, [3]string{r.method, r.path, r.rule})
	}
	return out
}

// Actions lists the names of the actions of POST /servers/ID/action.
func Actions() []string {
	var out []string
	for name := range serverActions {
		out = append(out, name)
	}
	return out
}
