package speech

import (
	"syscall"
	"testing"
	"time"

	"ninja/internal/world"
)

// A path that finds a spare engine does not wait for the model; a spare that died is not handed out; one spare is all.
func TestWarmEngines(t *testing.T) {
	words, err := GrammarWords(addresses)
	if err != nil {
		t.Fatal(err)
	}
	p := &pool{program: recogniserPath, warm: true}
	t.Cleanup(p.drop)
	setUp := func() (*recogniser, time.Duration) {
		r := &recogniser{engines: p, grammar: addresses, words: words, lex: newLexicon("flite"), world: world.Real()}
		began := time.Now()
		if err := r.prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		return r, time.Since(began)
	}
	first, cold := setUp()
	defer first.drop()
	// The spare has loaded its model when it answers; asking it is what a path does, only sooner.
	if _, err := p.spare.ask(t.Context(), askLookup, []byte("main")); err != nil {
		t.Fatal(err)
	}
	spare := p.spare
	second, warm := setUp()
	defer second.drop()
	if second.engine != spare || p.spare == nil || p.spare == spare {
		t.Error("the second path did not get the spare, or there is no next one")
	}
	t.Logf("a grammar is ready %v after the start without a spare, %v with one", cold, warm)
	syscall.Kill(p.spare.cmd.Process.Pid, syscall.SIGKILL)
	<-p.spare.dead
	dead := p.spare
	third, _ := setUp()
	defer third.drop()
	if third.engine == dead {
		t.Error("a dead spare was handed out")
	}
	p.drop()
	if p.spare != nil {
		t.Error("the spare outlives its pool")
	}
}
