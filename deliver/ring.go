package deliver

// ring is a first-in first-out queue on a circular buffer. Round robin is
// pop, use, push.
type ring[T any] struct {
	buf  []T
	head int
	size int
}

func (r *ring[T]) len() int { return r.size }

func (r *ring[T]) push(x T) {
	if r.size == len(r.buf) {
		r.grow()
	}
	r.buf[(r.head+r.size)%len(r.buf)] = x
	r.size++
}

// first is the oldest element; the ring must not be empty.
func (r *ring[T]) first() T { return r.buf[r.head] }

// pop takes the oldest element; the ring must not be empty.
func (r *ring[T]) pop() T {
	var zero T
	x := r.buf[r.head]
	r.buf[r.head] = zero
	r.head = (r.head + 1) % len(r.buf)
	r.size--
	return x
}

func (r *ring[T]) grow() {
	buf := make([]T, max(4, 2*len(r.buf)))
	for i := range r.size {
		buf[i] = r.buf[(r.head+i)%len(r.buf)]
	}
	r.buf, r.head = buf, 0
}

// keep drops what f refuses and leaves the order as it is.
func (r *ring[T]) keep(f func(T) bool) {
	for range r.size {
		if x := r.pop(); f(x) {
			r.push(x)
		}
	}
}
