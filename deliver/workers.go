package deliver

// idleWorkers is how many goroutines wait for the next leg: one that has grown
// its stack needn't grow it again for every leg.
const idleWorkers = 64

// dispatch starts what may start now.
func (d *Deliverer) dispatch() {
	for {
		d.mu.Lock()
		it := d.scheduler.next()
		d.mu.Unlock()
		if it == nil {
			return
		}
		select {
		case d.handed <- it: // a worker waits
		default:
			d.tasks.Go(func() { d.worker(it) })
		}
	}
}

// worker runs a leg and then others, as long as there are any.
func (d *Deliverer) worker(it *item) {
	for it != nil {
		if it = d.run(it); it == nil {
			it = d.rest()
		}
	}
}

// rest waits for the next leg; nil: enough others wait, or the stage ends.
func (d *Deliverer) rest() *item {
	if d.resting.Add(1) > idleWorkers {
		d.resting.Add(-1)
		return nil
	}
	defer d.resting.Add(-1)
	select {
	case it := <-d.handed:
		return it
	case <-d.ctx.Done():
		return nil
	}
}

// run takes a leg to its end here and frees its slot. It returns the next one
// to run.
func (d *Deliverer) run(it *item) (next *item) {
	c := d.end(it.value.(*task))
	d.mu.Lock()
	spilled := d.scheduler.done(it, c)
	next = d.scheduler.next()
	d.mu.Unlock()
	for _, sp := range spilled {
		d.spill(sp)
	}
	if next != nil {
		d.dispatch()
	}
	return next
}

// left frees a leg's slot at its destination before the leg has ended: what
// follows an attempt keeps no one from the next.
func (d *Deliverer) left(t *task, c contact) {
	d.mu.Lock()
	spilled := d.scheduler.left(t.item, c)
	d.mu.Unlock()
	for _, sp := range spilled {
		d.spill(sp)
	}
	d.dispatch()
}
