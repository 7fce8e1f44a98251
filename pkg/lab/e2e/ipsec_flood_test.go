package e2e

import (
	"crypto/ecdh"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	crand "crypto/rand"

	ikemessage "github.com/transitd/transitd/tunnel/ike/message"
	"github.com/transitd/transitd/tunnel/ike/suite"
)

// newInitiations makes IKE_SA_INIT requests as the peer would send them, each with
// an SPI and a nonce of its own and a public key that is a point of its curve,
// behind the marker of port 4500.
func newInitiations(t *testing.T, r *rand.Rand) func() []byte {
	t.Helper()
	offer, err := suite.ParseList(ikemessage.ProtocolIKE, suite.DefaultTexts(ikemessage.ProtocolIKE))
	if err != nil {
		t.Fatal(err)
	}
	var keys [][]byte
	for range 16 {
		k, err := ecdh.P384().GenerateKey(crand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k.PublicKey().Bytes()[1:]) // RFC 5903, section 7
	}
	return func() []byte {
		nonce := make([]byte, 32)
		for i := 0; i < len(nonce); i += 8 {
			binary.BigEndian.PutUint64(nonce[i:], r.Uint64())
		}
		b, err := ikemessage.Message{
			Header: ikemessage.Header{InitiatorSPI: 1 + r.Uint64()>>1, Exchange: ikemessage.IKESAInit, Flags: ikemessage.FlagInitiator},
			Payloads: []ikemessage.Payload{
				suite.Offer(offer, nil), ikemessage.KE{Method: offer[0].KeyExchanges()[0], Data: keys[r.IntN(len(keys))]}, ikemessage.Nonce{Data: nonce},
			},
		}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return append(make([]byte, ikeAt), b...)
	}
}
