//go:build !linux

package process

import "syscall"

// attributes are a group of its own; no kernel but Linux's tells a program that
// its parent was killed.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// ended can't wait without freeing the number here.
func ended(int) bool { return false }
