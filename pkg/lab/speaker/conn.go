package speaker

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// linger is how long a connection stays open for its last NOTIFICATION to
// reach the neighbour.
const linger = 500 * time.Millisecond

// controlQueue is how many messages beside UPDATEs may wait for the writer: OPEN,
// KEEPALIVE and ROUTE-REFRESH, of which more than a few mean that the
// neighbour does not read.
const controlQueue = 16

// conn is one TCP connection with a neighbour. Its reader and writer run until
// stop; everything in the first group belongs to the neighbour's owner.
type conn struct {
	outgoing  bool
	state     State // OpenSent, OpenConfirm or Established
	open      *Open // the neighbour's; nil in OpenSent
	hold      time.Duration
	holdTimer *time.Timer
	keepTimer *time.Timer
	stopped   bool

	// Constant.
	nc     net.Conn
	local  netip.Addr
	stats  *peerStats
	eventC chan<- connEvent
	box    *outbox

	// controlC carries messages to the writer, in order and before UPDATEs.
	controlC chan []byte
	// doneC is closed by stop, after final is set.
	doneC chan struct{}
	final []byte
}

// connEvent is a message, or the error that is the last event of its connection.
type connEvent struct {
	c   *conn
	msg Message
	err error
}

// newConn starts the reader and the writer; they are added to wg.
func newConn(nc net.Conn, outgoing bool, local netip.Addr, stats *peerStats, eventC chan<- connEvent, wg *sync.WaitGroup) *conn {
	c := &conn{
		outgoing: outgoing, state: OpenSent, nc: nc, local: local, stats: stats, eventC: eventC,
		box: newOutbox(), controlC: make(chan []byte, controlQueue), doneC: make(chan struct{}),
		holdTimer: newStoppedTimer(), keepTimer: newStoppedTimer(),
	}
	if !c.local.IsValid() {
		c.local = addrOf(nc.LocalAddr())
	}
	readerDoneC := make(chan struct{})
	wg.Go(func() {
		defer close(readerDoneC)
		c.read()
	})
	wg.Go(func() { c.write(readerDoneC) })
	return c
}

func newStoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// holdC and keepC are for the owner's select; a connection that is not there never fires.
func (c *conn) holdC() <-chan time.Time {
	if c == nil {
		return nil
	}
	return c.holdTimer.C
}

func (c *conn) keepC() <-chan time.Time {
	if c == nil {
		return nil
	}
	return c.keepTimer.C
}

// send queues a message that is not an UPDATE. If the queue is full, the
// neighbour has stopped reading: the message is lost, and a hold timer will tell.
func (c *conn) send(m Message) error {
	b, err := AppendMessage(nil, m)
	if err != nil {
		return err
	}
	select {
	case c.controlC <- b:
		return nil
	default:
		return errors.New("the neighbour does not read")
	}
}

// stop ends the connection, after a last message if final is not nil. It does
// not wait: the neighbour's WaitGroup does.
func (c *conn) stop(final *Notification) {
	if c.stopped {
		return
	}
	c.stopped = true
	c.holdTimer.Stop()
	c.keepTimer.Stop()
	if final != nil {
		c.final, _ = AppendMessage(nil, final) // never too long: MessageError.Notification cuts
	}
	_ = c.nc.SetWriteDeadline(time.Now().Add(linger))
	close(c.doneC)
}

// read reads messages until the connection or the owner ends it.
func (c *conn) read() {
	r := bufio.NewReaderSize(c.nc, 64<<10)
	for {
		msg, err := readMessage(r)
		if err == nil {
			c.stats.in.add(msg.Type())
		}
		select {
		case c.eventC <- connEvent{c: c, msg: msg, err: err}:
		case <-c.doneC:
			// What is unread at close would make the kernel send a reset,
			// which may overtake the NOTIFICATION.
			_, _ = io.Copy(io.Discard, r)
			return
		}
		if err != nil {
			return
		}
	}
}

// readMessage reads one message; a violation is a *MessageError.
func readMessage(r io.Reader) (Message, error) {
	buf := make([]byte, headerSize, maxMessage)
	if _, err := io.ReadFull(r, buf); err != nil {
		return nil, err
	}
	_, n, err := parseHeader([headerSize]byte(buf))
	if err != nil {
		return nil, err
	}
	buf = buf[:n]
	if _, err := io.ReadFull(r, buf[headerSize:]); err != nil {
		return nil, err
	}
	return ParseMessage(buf)
}

// write writes what is queued, then the last message, and closes the connection.
func (c *conn) write(readerDoneC <-chan struct{}) {
	err := c.writeUntilDone()
	if err == nil && c.final != nil {
		err = c.writeAll(c.final)
	}
	if err == nil {
		if half, ok := c.nc.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
		_ = c.nc.SetReadDeadline(time.Now().Add(linger))
		if c.final != nil {
			<-readerDoneC
		}
	}
	_ = c.nc.Close()
	<-readerDoneC
}

// writeUntilDone returns when doneC is closed, and reports an error to the owner before.
func (c *conn) writeUntilDone() error {
	for {
		var err error
		select {
		case <-c.doneC:
			return c.drainControl()
		case b := <-c.controlC:
			err = c.writeAll(b)
		case <-c.box.wakeC:
			// What was queued first must be first: the KEEPALIVE that
			// confirms OPEN comes before any UPDATE.
			if err = c.drainControl(); err == nil {
				err = c.writeUpdates()
			}
		}
		if err != nil {
			select {
			case c.eventC <- connEvent{c: c, err: err}:
			case <-c.doneC:
			}
			<-c.doneC
			return err
		}
	}
}

func (c *conn) drainControl() error {
	for {
		select {
		case b := <-c.controlC:
			if err := c.writeAll(b); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

func (c *conn) writeUpdates() error {
	updates, err := c.box.take()
	if err != nil {
		return err
	}
	for _, b := range updates {
		// A long table must not hold up KEEPALIVEs.
		if err := c.drainControl(); err != nil {
			return err
		}
		if err := c.writeAll(b); err != nil {
			return err
		}
	}
	return nil
}

// writeAll writes one message and counts it.
func (c *conn) writeAll(b []byte) error {
	if _, err := c.nc.Write(b); err != nil {
		return err
	}
	c.stats.out.add(MessageType(b[headerSize-1]))
	return nil
}
