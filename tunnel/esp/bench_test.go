package esp

import (
	"testing"

	"github.com/transitd/transitd/tunnel/replay"
)

func BenchmarkSeal(b *testing.B) {
	for _, cipher := range ciphers {
		for _, size := range []int{64, 1400} {
			b.Run(cipher.String()+"/"+map[int]string{64: "64", 1400: "1400"}[size], func(b *testing.B) {
				a, _ := keyed(b, cipher, true)
				buf := make([]byte, room+size+room)
				copy(buf[room:], ip4(size))
				b.SetBytes(int64(size))
				for b.Loop() {
					buf[room] = 0x45
					a.Seal(buf, room, size)
				}
			})
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, cipher := range ciphers {
		for _, size := range []int{64, 1400} {
			b.Run(cipher.String()+"/"+map[int]string{64: "64", 1400: "1400"}[size], func(b *testing.B) {
				from, to := keyed(b, cipher, true)
				d := seal(b, from, ip4(size))
				buf := make([]byte, len(d))
				b.SetBytes(int64(size))
				p := to.find(0x55667788)
				for b.Loop() {
					copy(buf, d)
					p.window = replay.Window{} // 2 KB to clear: part of the figure
					to.Open(buf)
				}
			})
		}
	}
}
