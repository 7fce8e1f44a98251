package bfd

import (
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Session is one running BFD session. Its methods may be called by any
// goroutine, in any order and more than once.
type Session struct {
	config Config
	to     unix.Sockaddr // the peer and its port
	tx     int           // socket to send from
	reader *reader       // socket to receive from
	bell   bell
	stop   atomic.Uint32 // running, leaving or closing
	done   chan struct{} // closed by the goroutine at its end
	failed bool          // the goroutine's: the last packet could not be sent

	mu       sync.Mutex // guards what follows; held for microseconds, never during I/O
	machine  *machine
	sent     uint64
	txErrors uint64
	rxErrors uint64
	ended    bool // the descriptors are closed
	closeErr error
}

// What a session is told to do, in the order of urgency.
const (
	running uint32 = iota
	leaving        // say goodbye, then end
	closing        // end
)

// Start opens the session's sockets in the network namespace of the calling
// thread and starts its goroutine. The session is down until the peer answers.
func Start(c Config) (*Session, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("start BFD session %q: %w", c.Name, err)
	}
	s := &Session{config: c, done: make(chan struct{})}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("start BFD session %q: %w", c.Name, err)
	}
	go s.run()
	return s, nil
}

func (s *Session) open() (err error) {
	var seed [32]byte
	_, _ = crand.Read(seed[:]) // by its documentation it never fails
	random := rand.New(rand.NewChaCha8(seed))
	if s.to, err = s.config.sockaddr(s.config.Peer, s.config.port()); err != nil {
		return err
	}
	rx, err := openReceiver(s.config)
	if err != nil {
		return err
	}
	if s.tx, err = openSender(s.config, random); err != nil {
		return errors.Join(err, unix.Close(rx))
	}
	if s.bell, err = newBell(); err != nil {
		return errors.Join(err, unix.Close(rx), unix.Close(s.tx))
	}
	s.reader = newReader(rx)
	s.machine = newMachine(s.config, discriminator(), random, time.Now())
	return nil
}

// discriminator is random, so that it says nothing about other sessions and
// packets for our predecessor are not taken for ours; 0 is reserved.
func discriminator() uint32 {
	var b [4]byte
	for {
		_, _ = crand.Read(b[:])
		if d := binary.BigEndian.Uint32(b[:]); d != 0 {
			return d
		}
	}
}

// Shutdown tells the peer that the end is on purpose (AdminDown), which is no
// failure to it (RFC 5882, section 3.2), and ends the session. OnState hears of
// the change to AdminDown. It takes less than a tenth of a second.
func (s *Session) Shutdown() {
	s.stop.CompareAndSwap(running, leaving)
	s.wake()
	<-s.done
}

// Close ends the session at once and without a word to the peer or to OnState.
func (s *Session) Close() error {
	s.stop.Store(closing)
	s.wake()
	<-s.done
	return s.closeErr
}

func (s *Session) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.bell.ring()
	}
}

// Status is what a session is at one moment. After its end it stays what it was last.
type Status struct {
	Name        string
	Local, Peer netip.Addr
	Multihop    bool

	State            State
	Diagnostic       Diagnostic // why State was last left for a lower one
	Since            time.Time  // of State
	RemoteState      State      // as last heard; Down if nothing is heard
	RemoteDiagnostic Diagnostic

	Discriminator       uint32
	RemoteDiscriminator uint32 // 0: not known

	TxInterval    time.Duration // agreed on, before jitter
	RxInterval    time.Duration // agreed on: the peer's packets come no slower
	DetectionTime time.Duration // 0: nothing is heard

	Flaps  uint64 // times the session went down without either end wanting it
	Graces uint64 // times our own process ran too late to judge the peer's silence

	Rx, Tx   uint64              // packets that were valid, packets sent
	RxErrors uint64              // failed receive calls
	TxErrors uint64              // failed send calls
	Dropped  [DropReasons]uint64 // received and thrown away, by reason
}

// Status returns the session's state and counters.
func (s *Session) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.machine
	return Status{
		Name: s.config.Name, Local: s.config.Local, Peer: s.config.Peer, Multihop: s.config.Multihop,
		State: m.state, Diagnostic: m.diagnostic, Since: m.since,
		RemoteState: m.peer.state, RemoteDiagnostic: m.peer.diagnostic,
		Discriminator: m.mine, RemoteDiscriminator: m.peer.discriminator,
		TxInterval: m.txInterval(), RxInterval: m.rxInterval(), DetectionTime: m.detectionTime(),
		Flaps: m.flaps, Graces: m.graces,
		Rx: m.rx, Tx: s.sent, RxErrors: s.rxErrors, TxErrors: s.txErrors, Dropped: m.dropped,
	}
}
