// Package suite knows which algorithms there are: it reads and writes proposals
// as strongSwan spells them (aes256gcm16-prfsha384-ecp384), and chooses among
// what two ends propose (RFC 7296, section 2.7), or says in words why it cannot.
//
//	algorithm.go  the algorithms, their spelling and their numbers
//	proposal.go   what one end is ready for: Parse, String, Defaults
//	choice.go     what both agreed on: Select for who answers, Accept for who asked
//
// Everything is a value. How the algorithms work is keys' business.
package suite
