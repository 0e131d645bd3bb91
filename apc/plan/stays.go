package plan

// Stays says what of a running plan goes on in another, as Move does: its i-th is the position in the running plan's Steps of
// the step that is the i-th of the other, or -1. The two need not be of one catalogue.
func Stays(running, to *Plan) []int {
	m := Move{To: to}
	m.compare(running)
	return m.Stays
}
