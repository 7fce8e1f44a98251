package wireguard

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.zx2c4.com/wireguard/device"
)

// macs are mac1 and mac2 towards or for one public key, by upstream's own code
// (paper, sections 5.4.4 and 5.4.7). It takes the time, for the age of a
// cookie, from the system.
type macs struct {
	checker   device.CookieChecker   // of messages for the key, if it is ours
	generator device.CookieGenerator // for messages to the key, if it is the peer's
}

func newMACs(k PublicKey) *macs {
	m := &macs{}
	m.checker.Init(device.NoisePublicKey(k))
	m.generator.Init(device.NoisePublicKey(k))
	return m
}

// sign writes the MACs into the last 32 bytes of a message.
func (m *macs) sign(b []byte) { m.generator.AddMacs(b) }

func (m *macs) check1(b []byte) bool         { return m.checker.CheckMAC1(b) }
func (m *macs) check2(b, source []byte) bool { return m.checker.CheckMAC2(b, source) }

// reply makes the cookie for a message that has none.
func (m *macs) reply(b, source []byte) ([]byte, error) {
	r, err := m.checker.CreateReply(b, binary.LittleEndian.Uint32(b[4:]), source) // the sender's index is there in both messages
	if err != nil {
		return nil, fmt.Errorf("make a cookie: %w", err)
	}
	var out bytes.Buffer
	if err := binary.Write(&out, binary.LittleEndian, r); err != nil {
		return nil, fmt.Errorf("make a cookie: %w", err)
	}
	return out.Bytes(), nil
}

// take keeps a cookie for the next message; false if it is not from the peer.
func (m *macs) take(b []byte) bool {
	var r device.MessageCookieReply
	if err := binary.Read(bytes.NewReader(b), binary.LittleEndian, &r); err != nil {
		return false
	}
	return m.generator.ConsumeReply(&r)
}
