package observe

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/events"
	"github.com/transitd/transitd/pkg/sse"
)

const (
	// liveInterval is how often the page gets the status.
	liveInterval = 2 * time.Second
	// shownEvents is how many past events the page begins with.
	shownEvents = 200
	// eventQueue is how many events may wait for a page.
	eventQueue = 64
)

// Live is what the page gets every two seconds, as the event "live".
type Live struct {
	Time   time.Time         `json:"time"`
	Status control.Status    `json:"status"`
	Ready  control.Readiness `json:"ready"`
	Rates  []Rate            `json:"rates"`
}

// feed makes one message for all clients.
type feed struct {
	mu      sync.Mutex
	max     int
	clients map[chan []byte]struct{}
	wake    chan struct{} // the first client is there
}

func newFeed(most int) *feed {
	return &feed{max: most, clients: map[chan []byte]struct{}{}, wake: make(chan struct{}, 1)}
}

// join adds a client; ok is false if there are too many. The channel holds the
// newest message only.
func (f *feed) join() (c chan []byte, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.clients) >= f.max {
		return nil, false
	}
	c = make(chan []byte, 1)
	f.clients[c] = struct{}{}
	select {
	case f.wake <- struct{}{}:
	default:
	}
	return c, true
}

func (f *feed) leave(c chan []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.clients, c)
}

func (f *feed) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.clients)
}

// tell gives every client a message, in the place of one that it has not taken yet.
func (f *feed) tell(b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.clients {
		select {
		case <-c:
		default:
		}
		c <- b // there is room: only tell puts something in
	}
}

// run makes messages while there are clients, until ctx is done.
func (f *feed) run(ctx context.Context, message func(*meter) []byte) {
	ticker := time.NewTicker(liveInterval)
	defer ticker.Stop()
	var m meter
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		case <-ticker.C:
		}
		if f.count() == 0 {
			m = meter{} // a rate over the pause would be none of now
			continue
		}
		f.tell(message(&m))
	}
}

// now is the message of this moment.
func (s *Server) now(m *meter) []byte {
	l := Live{Time: time.Now().UTC(), Status: s.node.Status(), Ready: s.node.Readiness()}
	l.Rates = m.rates(time.Now(), l.Status.Tunnels)
	return s.encode(l)
}

func (s *Server) encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil { // a number that JSON has not: the page shows what it had
		s.log.Error("cannot encode a message for the status page", zap.Error(err))
		return []byte("null")
	}
	return b
}

// live feeds a page until it leaves, does not read, or the server stops.
func (s *Server) live(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", "GET")
		http.Error(w, "a stream has no header alone", http.StatusMethodNotAllowed)
		return
	}
	statuses, ok := s.feed.join()
	if !ok {
		w.Header().Set("Retry-After", "10")
		http.Error(w, "as many pages are open as may; close one", http.StatusServiceUnavailable)
		return
	}
	defer s.feed.leave(statuses)
	past, sub := s.node.Events().Subscribe(0, eventQueue)
	defer sub.Close()
	out := sse.NewWriter(w)
	if out.Send("history", "", s.encode(s.history.view())) != nil || out.Send("events", "", s.encode(events.Last(past, shownEvents))) != nil {
		return
	}
	for {
		var err error
		select {
		case <-r.Context().Done():
			return
		case b := <-statuses: // every 2 s: it is the beat too
			err = out.Send("live", "", b)
		case e, open := <-sub.Events():
			if !open {
				return // too slow; the page comes back
			}
			err = out.Send("event", strconv.FormatUint(e.Seq, 10), s.encode(e))
		}
		if err != nil {
			return
		}
	}
}
