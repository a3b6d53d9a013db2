//go:build !unix

package daybook

import "os"

// lock does nothing: one process writes to a book.
func lock(*os.File) (unlock func(), err error) { return func() {}, nil }
