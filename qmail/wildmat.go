package qmail

import "strings"

// wild are the characters that mean something in a pattern.
const wild = `*?[\`

// wildmat reports whether text fits a shell-like pattern as INN's wildmat
// reads it: "*" any run, "?" any octet, "[a-z]" and "[^a-z]" one of a class,
// "\" the next octet itself. Its time is bounded by the product of both
// lengths. What is malformed matches nothing.
func wildmat(pattern, text string) bool {
	star, mark := -1, 0 // place behind the last star, and where its run ends
	p, t := 0, 0
	for t < len(text) {
		if p < len(pattern) && pattern[p] == '*' {
			p++
			star, mark = p, t
			continue
		}
		if width := one(pattern[p:], text[t]); width > 0 {
			p, t = p+width, t+1
			continue
		}
		if star < 0 {
			return false
		}
		mark++
		p, t = star, mark
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// one is the length of the element at the start of pattern if it fits c, else
// 0.
func one(pattern string, c byte) int {
	if pattern == "" {
		return 0
	}
	switch pattern[0] {
	case '?':
		return 1
	case '\\':
		if len(pattern) > 1 && pattern[1] == c {
			return 2
		}
		return 0
	case '[':
		return class(pattern, c)
	}
	if pattern[0] == c {
		return 1
	}
	return 0
}

// class is one for a class. "]" and "-" stand for themselves right behind the
// bracket.
func class(pattern string, c byte) int {
	i, negated, found := 1, false, false
	if i < len(pattern) && pattern[i] == '^' {
		i, negated = i+1, true
	}
	for first := i; i < len(pattern); i++ {
		switch {
		case pattern[i] == ']' && i > first:
			if found == negated {
				return 0
			}
			return i + 1
		case pattern[i] == '-' && i > first && i+1 < len(pattern) && pattern[i+1] != ']':
			found = found || pattern[i-1] <= c && c <= pattern[i+1]
			i++
		default:
			found = found || pattern[i] == c
		}
	}
	return 0
}
