package esp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"testing"

	"github.com/transitd/transitd/tunnel"
	"github.com/transitd/transitd/tunnel/sa"
)

const room = 64 // before and behind a packet in a buffer of the tests

// keyed are the two ends of a pair.
func keyed(t testing.TB, c sa.Cipher, esn bool, change ...func(*sa.Pair)) (a, b *Codec) {
	t.Helper()
	key := func(n byte) []byte {
		k := make([]byte, c.KeyLen())
		for i := range k {
			k[i] = byte(i) + n
		}
		return k
	}
	p := sa.Pair{In: sa.Direction{SPI: 0x11223344, Key: key(1)}, Out: sa.Direction{SPI: 0x55667788, Key: key(2)}, Cipher: c, ESN: esn}
	for _, f := range change {
		f(&p)
	}
	a, b = New(), New()
	install(t, a, p, true)
	install(t, b, mirror(p), true)
	return a, b
}

func mirror(p sa.Pair) sa.Pair {
	p.In, p.Out = p.Out, p.In
	p.Local, p.Remote = p.Remote, p.Local
	return p
}

func install(t testing.TB, c *Codec, p sa.Pair, use bool) {
	t.Helper()
	if err := c.Install(p, use); err != nil {
		t.Fatal(err)
	}
}

// ip4 is an IPv4 packet of UDP with n bytes in all, at least 28.
func ip4(n int) []byte {
	b := make([]byte, n)
	b[0], b[8], b[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(b[2:], uint16(n))
	copy(b[12:], []byte{192, 0, 2, 1, 198, 51, 100, 1})
	binary.BigEndian.PutUint16(b[20:], 1000)
	binary.BigEndian.PutUint16(b[22:], 2000)
	binary.BigEndian.PutUint16(b[24:], uint16(n-20))
	for i := 28; i < n; i++ {
		b[i] = byte(i)
	}
	return b
}

func ip6(n int) []byte {
	b := make([]byte, n)
	b[0], b[6], b[7] = 0x60, 59, 64
	binary.BigEndian.PutUint16(b[4:], uint16(n-40))
	b[8], b[24] = 0x20, 0x30
	return b
}

// seal makes a datagram.
func seal(t testing.TB, c *Codec, pkt []byte) []byte {
	t.Helper()
	buf := make([]byte, room+len(pkt)+room)
	copy(buf[room:], pkt)
	start, end, r := c.Seal(buf, room, len(pkt))
	if r != tunnel.DropNone {
		t.Fatalf("seal: %s", r)
	}
	if start != room-c.Overhead() || end > room+len(pkt)+c.Trailer() {
		t.Fatalf("a datagram from %d to %d of a packet at %d of %d bytes", start, end, room, len(pkt))
	}
	return buf[start:end:end]
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// inner makes a datagram of anything in place of a packet with its trailer.
func inner(t testing.TB, c *Codec, plain []byte) []byte {
	t.Helper()
	p := c.out.Load()
	sequence := p.counter.Add(1)
	d := make([]byte, headerLen, headerLen+len(plain)+tagLen)
	binary.BigEndian.PutUint32(d, p.out)
	binary.BigEndian.PutUint32(d[4:], uint32(sequence))
	binary.BigEndian.PutUint64(d[8:], sequence)
	nonce := append(bytes.Clone(p.sealSalt[:]), d[8:16]...)
	var aad [aadLen]byte
	return p.seal.Seal(d, nonce, plain, associate(aad[:], p.esn, p.out, sequence))
}
