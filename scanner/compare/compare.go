// Package compare sums up what two scan policies made of the same mail: the one
// in force, and a shadow that decided nothing.
//
// Guarantee: every comparison that was told is in one cell of a report's table
// for each recipient, once, whether or not the policies agreed.
//
// Comparisons where both agree are told as counts; of one where they don't an
// event of its own names the message, beside its count. A scanner that is killed
// takes with it what it hasn't told yet, some seconds of counts. Policies and
// engines are their names, whatever their documents said when a leg was compared:
// who has changed one asks for the time since then. Nothing here decides anything
// about mail.
package compare
