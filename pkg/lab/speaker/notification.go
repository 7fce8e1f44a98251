package speaker

import (
	"bytes"
	"fmt"
)

// Error codes of NOTIFICATION (RFC 4271, section 4.5).
const (
	codeHeader      uint8 = 1
	codeOpen        uint8 = 2
	codeUpdate      uint8 = 3
	codeHoldTimer   uint8 = 4
	codeFSM         uint8 = 5
	codeCease       uint8 = 6
	codeRefresh     uint8 = 7 // RFC 7313, section 5
	subcodeNone     uint8 = 0
	maxNotifyOctets       = maxMessage - minNotify
)

// Subcodes of message header errors (RFC 4271, section 6.1).
const (
	headerNotSynchronized uint8 = 1
	headerBadLength       uint8 = 2
	headerBadType         uint8 = 3
)

// Subcodes of OPEN errors (RFC 4271, section 6.2; RFC 5492, section 5).
const (
	openVersion     uint8 = 1
	openPeerAS      uint8 = 2
	openIdentifier  uint8 = 3
	openParameter   uint8 = 4
	openHoldTime    uint8 = 6
	openCapability  uint8 = 7
	openUnspecified uint8 = 0
)

// Subcodes of UPDATE errors (RFC 4271, section 6.3).
const (
	updateAttributeList uint8 = 1
	updateNetwork       uint8 = 10
)

// Subcodes of FSM errors: a message that the state does not expect (RFC 6608, section 3).
const (
	fsmOpenSent    uint8 = 1
	fsmOpenConfirm uint8 = 2
	fsmEstablished uint8 = 3
)

// Subcodes of Cease (RFC 4486, section 3).
const (
	ceaseMaxPrefixes uint8 = 1
	ceaseShutdown    uint8 = 2
	ceaseReset       uint8 = 4
	ceaseRejected    uint8 = 5
	ceaseCollision   uint8 = 7
)

// Notification is the NOTIFICATION message (RFC 4271, section 4.5). It ends a session.
type Notification struct {
	Code    uint8
	Subcode uint8
	Data    []byte
}

// Type returns TypeNotification.
func (*Notification) Type() MessageType { return TypeNotification }

func (n *Notification) appendBody(b []byte) ([]byte, error) {
	return append(append(b, n.Code, n.Subcode), n.Data...), nil
}

// String names the error, as "Cease/Maximum Number of Prefixes Reached".
func (n *Notification) String() string {
	code := lookup(codeNames(), n.Code)
	if sub, ok := subcodeNames()[[2]uint8{n.Code, n.Subcode}]; ok {
		return code + "/" + sub
	}
	if n.Subcode == subcodeNone {
		return code
	}
	return fmt.Sprintf("%s/%d", code, n.Subcode)
}

func lookup(names map[uint8]string, v uint8) string {
	if s, ok := names[v]; ok {
		return s
	}
	return fmt.Sprintf("unknown(%d)", v)
}

func codeNames() map[uint8]string {
	return map[uint8]string{
		codeHeader:    "Message Header Error",
		codeOpen:      "OPEN Message Error",
		codeUpdate:    "UPDATE Message Error",
		codeHoldTimer: "Hold Timer Expired",
		codeFSM:       "Finite State Machine Error",
		codeCease:     "Cease",
		codeRefresh:   "ROUTE-REFRESH Message Error",
	}
}

func subcodeNames() map[[2]uint8]string {
	return map[[2]uint8]string{
		{codeHeader, headerNotSynchronized}: "Connection Not Synchronized",
		{codeHeader, headerBadLength}:       "Bad Message Length",
		{codeHeader, headerBadType}:         "Bad Message Type",
		{codeOpen, openVersion}:             "Unsupported Version Number",
		{codeOpen, openPeerAS}:              "Bad Peer AS",
		{codeOpen, openIdentifier}:          "Bad BGP Identifier",
		{codeOpen, openParameter}:           "Unsupported Optional Parameter",
		{codeOpen, openHoldTime}:            "Unacceptable Hold Time",
		{codeOpen, openCapability}:          "Unsupported Capability",
		{codeUpdate, updateAttributeList}:   "Malformed Attribute List",
		{codeUpdate, updateNetwork}:         "Invalid Network Field",
		{codeFSM, fsmOpenSent}:              "Unexpected Message in OpenSent",
		{codeFSM, fsmOpenConfirm}:           "Unexpected Message in OpenConfirm",
		{codeFSM, fsmEstablished}:           "Unexpected Message in Established",
		{codeCease, ceaseMaxPrefixes}:       "Maximum Number of Prefixes Reached",
		{codeCease, ceaseShutdown}:          "Administrative Shutdown",
		{codeCease, 3}:                      "Peer De-configured",
		{codeCease, ceaseReset}:             "Administrative Reset",
		{codeCease, ceaseRejected}:          "Connection Rejected",
		{codeCease, 6}:                      "Other Configuration Change",
		{codeCease, ceaseCollision}:         "Connection Collision Resolution",
		{codeCease, 8}:                      "Out of Resources",
		{codeCease, 9}:                      "Hard Reset",
	}
}

// A MessageError is why a session must end, and the NOTIFICATION that says so.
type MessageError struct {
	Code    uint8
	Subcode uint8
	Data    []byte
	// Reason is for a person.
	Reason string
}

// Error names the code and gives the reason.
func (e *MessageError) Error() string {
	return fmt.Sprintf("%v: %s", e.Notification(), e.Reason)
}

// Notification is the answer on the wire.
func (e *MessageError) Notification() *Notification {
	data := e.Data
	if len(data) > maxNotifyOctets {
		data = data[:maxNotifyOctets]
	}
	return &Notification{Code: e.Code, Subcode: e.Subcode, Data: data}
}

func newMessageError(code, sub uint8, data []byte, format string, args ...any) *MessageError {
	return &MessageError{Code: code, Subcode: sub, Data: bytes.Clone(data), Reason: fmt.Sprintf(format, args...)}
}

func headerError(sub uint8, data []byte, format string, args ...any) error {
	return newMessageError(codeHeader, sub, data, format, args...)
}

func openError(sub uint8, data []byte, format string, args ...any) error {
	return newMessageError(codeOpen, sub, data, format, args...)
}

func updateError(sub uint8, format string, args ...any) error {
	return newMessageError(codeUpdate, sub, nil, format, args...)
}
