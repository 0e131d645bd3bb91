package sds

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ninja/capability"
	"ninja/sds/announce"
	"ninja/sds/index"
)

// listed is what a way of opening classes leads to.
func listed(t *testing.T, open func([]capability.Who, func(*index.Class) bool), grants []capability.Who) (ids []string, opened int) {
	t.Helper()
	fuel := index.Fuel
	open(grants, func(c *index.Class) bool {
		opened++
		_, err := c.Search(index.All(), "", &fuel, func(d *index.Doc) bool {
			ids = append(ids, fmt.Sprint(d.ID, d.Item.(*record).version))
			return true
		})
		if err != nil {
			t.Error(err)
		}
		return true
	})
	slices.Sort(ids)
	return ids, opened
}

// "Past a stated number of classes a merged view per holder is cached, still without the hidden": it shows what the
// classes show, batch by batch, while services come, change, go and change hands.
func TestViewsShowWhatTheClassesShow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		acls := &fakeACLs{lists: map[string]*capability.ACL{}, fresh: true, changed: make(chan struct{})}
		s, stop := newStoreFor(t, Config{ACLs: acls})
		defer stop()
		random := rand.New(rand.NewPCG(3, 3))
		const groups = 100
		var grants []capability.Who
		for i := range groups {
			grants = append(grants, capability.Who(fmt.Sprint("group:", i)))
		}
		versions := map[int]uint64{}
		change := func(i int) {
			name := fmt.Sprint("p", i)
			id := string(anOwner) + "#" + name
			group := i % groups
			if random.IntN(4) == 0 {
				group = random.IntN(2 * groups) // half of them are hidden
			}
			versions[i]++
			switch random.IntN(5) {
			case 0:
				s.withdraw(anOwner, name, versions[i])
				versions[i]++
			case 1:
				acls.set(id, capability.Who(fmt.Sprint("group:", group)))
				_ = s.do(func() { s.reclass([]string{id}) })
			default:
				acls.set(id, capability.Who(fmt.Sprint("group:", group)))
				_ = s.do(func() { // together, as a batch
					s.reclass([]string{id})
					tree := parsed(t, fmt.Sprintf("<a><b>%d</b></a>", versions[i]))
					b := announce.Body{Owner: anOwner, Name: name, Version: versions[i], Description: fmt.Append(nil, versions[i])}
					if err := s.applyPut(b, tree, time.Now()); err != nil {
						t.Error(err)
					}
				})
			}
		}
		for i := range 300 {
			change(i)
		}
		if _, opened := listed(t, s.look, grants); opened <= viewLeast {
			t.Fatalf("%d classes were opened", opened)
		}
		for range 5 { // some changes fall into its making
			change(random.IntN(400))
		}
		synctest.Wait()
		merged := 0
		for range 300 {
			want, _ := listed(t, s.snapshot.Load().open, grants)
			got, opened := listed(t, s.look, grants)
			if !slices.Equal(got, want) {
				t.Fatalf("the view shows\n%v, the classes\n%v", got, want)
			}
			if opened == 1 {
				merged++
			}
			change(random.IntN(400))
		}
		if merged < 299 {
			t.Errorf("the view was used %d times", merged)
		}
		if _, opened := listed(t, s.look, grants[:3]); opened != 3 {
			t.Errorf("%d classes were opened for who has 3", opened)
		}
		time.Sleep(viewIdle + 3*time.Second)
		_ = s.do(func() {
			if n := len(s.views.by) + len(s.snapshot.Load().views); n != 0 {
				t.Errorf("%d views are kept for nobody", n)
			}
		})
	})
}
