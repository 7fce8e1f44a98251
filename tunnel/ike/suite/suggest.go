package suite

import (
	"slices"
	"strings"

	"github.com/transitd/transitd/tunnel/ike/message"
)

// suggestion is what was probably meant by a word that is none: a slip, or how
// other products write it. Empty if there is no saying.
func suggestion(protocol message.Protocol, word string) string {
	switch {
	case strings.HasSuffix(word, "!"):
		return strings.TrimSuffix(word, "!") + " (nothing else is offered anyway)"
	case strings.ContainsAny(word, separators):
		parts := strings.FieldsFunc(word, func(r rune) bool { return strings.ContainsRune(separators, r) })
		if len(parts) > 1 && slices.ContainsFunc(parts[1:], encrypts) {
			return "several proposals, one list element each"
		}
		return strings.Join(parts, "-")
	case word == "gcm" || word == "gcm16":
		return "aes256gcm16, in one word"
	}
	// Azure's spelling, and that of Cisco and others: groups by their numbers.
	switch foreign := strings.NewReplacer("dhgroup", "", "group", "", "dh", "", "pfs", "").Replace(word); foreign {
	case "14", "2048":
		return "modp2048"
	case "15":
		return "modp3072"
	case "16":
		return "modp4096"
	case "19":
		return "ecp256"
	case "20":
		return "ecp384"
	case "21":
		return "ecp521"
	case "31":
		return "x25519"
	case "gcmaes256", "aes-gcm-256", "gcm256":
		return "aes256gcm16"
	case "gcmaes128", "gcm128":
		return "aes128gcm16"
	}
	best, least := "", 3
	for a := range strings.SplitSeq(words(protocol), ", ") {
		if d := distance(word, a); d < least {
			best, least = a, d
		}
	}
	return best
}

// separators stand between words, or proposals, elsewhere.
const separators = "/,+: "

// encrypts reports whether a word is an encryption, with which a proposal begins.
func encrypts(word string) bool {
	return slices.ContainsFunc(algorithms(), func(a algorithm) bool {
		return a.word == word && a.transform.Type == message.TransformEncryption
	})
}

// distance is how many letters have to be changed, added or left out.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
