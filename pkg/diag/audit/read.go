package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// MaxDocument bounds one input, in bytes: the effective routes of a card with 10,000 prefixes have about 4 MB.
const MaxDocument = 64 << 20

// Kinds of documents, as Input.Kind names them.
const (
	KindEffective     = "effective routes"
	KindLearned       = "learned routes"
	KindAdvertised    = "advertised routes"
	KindCard          = "network card"
	KindPeering       = "VNet peering"
	KindVNet          = "virtual network"
	KindRouteServer   = "Route Server"
	KindBGPPeering    = "Route Server peering"
	KindSecurityGroup = "network security group"
	KindNothing       = "empty list"
)

// InputError is a document that cannot be read or that is none of the kinds.
type InputError struct {
	Source string
	Msg    string
	Hint   string // what would be right
}

// Error is source and message.
func (e *InputError) Error() string { return e.Source + ": " + e.Msg }

// Read adds the documents of one input to what is known: one JSON value, or
// several after each other. Lines that begin with # are comments. source is the
// input's name for messages; for an empty list of a Route Server, in which
// nothing tells learned from advertised, "advertised" in it decides.
//
// The error is an *InputError; the documents before the bad one were added.
func (a *Azure) Read(source string, data []byte) error {
	if len(data) > MaxDocument {
		return &InputError{Source: source, Msg: fmt.Sprintf("has %d bytes, at most %d are read", len(data), MaxDocument)}
	}
	data = withoutComments(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	for n := 1; ; n++ {
		where := source
		if n > 1 {
			where = fmt.Sprintf("%s, document %d", source, n)
		}
		var v any
		err := dec.Decode(&v)
		if errors.Is(err, io.EOF) {
			if n == 1 {
				return &InputError{Source: source, Msg: "is empty", Hint: hintJSON}
			}
			return nil
		}
		if err != nil {
			offset := dec.InputOffset()
			if se, ok := errors.AsType[*json.SyntaxError](err); ok {
				offset = max(offset, se.Offset)
			} else if errors.Is(err, io.ErrUnexpectedEOF) {
				offset = int64(len(data))
			}
			line := 1 + bytes.Count(data[:min(int(offset), len(data))], []byte("\n"))
			return &InputError{Source: where, Msg: fmt.Sprintf("is not JSON at line %d: %v", line, err), Hint: hintJSON}
		}
		r := reader{azure: a, where: where}
		if err := r.value(v); err != nil {
			return err
		}
	}
}

const hintJSON = "give what az prints with -o json"

// withoutComments empties the lines that begin with #, so that lines keep their numbers. No JSON text has a line break inside.
func withoutComments(data []byte) []byte {
	if !bytes.Contains(data, []byte("#")) {
		return data
	}
	lines := bytes.Split(data, []byte("\n"))
	for i, l := range lines {
		if bytes.HasPrefix(bytes.TrimSpace(l), []byte("#")) {
			lines[i] = nil
		}
	}
	return bytes.Join(lines, []byte("\n"))
}

// reader reads one document.
type reader struct {
	azure *Azure
	where string
}

func (r reader) note(format string, args ...any) {
	r.azure.Notes = append(r.azure.Notes, fmt.Sprintf(format, args...))
}

func (r reader) took(kind string, items int) {
	r.azure.Inputs = append(r.azure.Inputs, Input{Source: r.where, Kind: kind, Items: items})
}

func (r reader) fail(hint, format string, args ...any) error {
	return &InputError{Source: r.where, Msg: fmt.Sprintf(format, args...), Hint: hint}
}

// value recognises a document.
func (r reader) value(v any) error {
	switch v := v.(type) {
	case []any:
		return r.list(v)
	case map[string]any:
		return r.object(newObject(r.where, v, r.note))
	default:
		return r.fail(hintJSON, "is a single value, not an object or a list")
	}
}

// list is a list of routes, of resources, or what "value" of a REST answer holds.
func (r reader) list(v []any) error {
	if len(v) == 0 {
		r.took(KindNothing, 0)
		return nil
	}
	var objects []object
	for i, e := range v {
		m, ok := e.(map[string]any)
		if !ok {
			return r.fail(hintJSON, "is a list whose element %d is not an object", i+1)
		}
		objects = append(objects, newObject(r.where, m, r.note))
	}
	switch first := objects[0]; {
	case first.has("addressPrefix") && first.has("nextHopType"):
		r.effective(objects)
	case isPeerRoute(first):
		r.peerRoutes(map[string][]object{"all instances": objects})
	default:
		for _, o := range objects {
			if err := r.object(o); err != nil {
				return err
			}
		}
	}
	return nil
}

func isPeerRoute(o object) bool {
	return o.has("network") && (o.has("localAddress") || o.has("asPath") || o.has("sourcePeer"))
}

// object is a resource, the routes of a Route Server, or an envelope.
func (r reader) object(o object) error {
	if roles, err := r.roles(o); roles != nil || err != nil {
		r.peerRoutes(roles)
		return err
	}
	if read := r.resource(o); read != nil {
		read(o)
		return nil
	}
	if t := o.text("type"); t != "" {
		return r.fail(hintKinds, "is a resource of type %.80q, which audit does not read", t)
	}
	switch v := o.fields["value"].(type) {
	case []any:
		return r.list(v)
	case map[string]any:
		return r.object(newObject(r.where, v, r.note))
	}
	if e := o.child("error"); e.has("code") || e.has("message") {
		return r.fail("mend that first, then give the answer", "is an error of Azure: %.80s: %.300s", e.text("code"), e.text("message"))
	}
	keys := slices.Sorted(maps.Keys(o.fields))
	return r.fail(hintKinds, "is nothing that audit knows; it has %s", firstOf(keys, 6))
}

const hintKinds = "audit reads az network nic show-effective-route-table, nic show, vnet show, vnet peering show|list, nsg show, " +
	"routeserver show, routeserver peering show|list|list-learned-routes|list-advertised-routes"

// firstOf names some of a list.
func firstOf(list []string, n int) string {
	if len(list) == 0 {
		return "nothing"
	}
	if len(list) <= n {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:n], ", "), len(list)-n)
}

// roles are the lists of a Route Server's instances; nil if the object has none.
func (r reader) roles(o object) (map[string][]object, error) {
	var roles map[string][]object
	for k := range o.fields {
		if !strings.HasPrefix(k, "routeservicerole_") {
			continue
		}
		if roles == nil {
			roles = map[string][]object{}
		}
		name := "RouteServiceRole_" + strings.ToUpper(strings.TrimPrefix(k, "routeservicerole_"))
		routes := o.objects(k)
		for _, e := range routes {
			if !e.has("network") {
				return nil, r.fail("is it the output of list-learned-routes or list-advertised-routes?", "a route of %s has no network", name)
			}
		}
		roles[name] = routes
	}
	return roles, nil
}

// resource finds the reader of a resource: by its type, or by fields that only it has.
func (r reader) resource(o object) func(object) {
	switch strings.ToLower(o.text("type")) {
	case "":
	case "microsoft.network/networkinterfaces":
		return r.card
	case "microsoft.network/virtualnetworks":
		return r.vnet
	case "microsoft.network/virtualnetworks/virtualnetworkpeerings":
		return r.peering
	case "microsoft.network/virtualhubs":
		return r.routeServer
	case "microsoft.network/virtualhubs/bgpconnections":
		return r.bgpPeering
	case "microsoft.network/networksecuritygroups":
		return r.securityGroup
	default:
		return nil
	}
	switch {
	case o.has("peeringState") || o.has("remoteVirtualNetwork"):
		return r.peering
	case o.has("virtualRouterIps") || o.has("allowBranchToBranchTraffic"):
		return r.routeServer
	case o.has("peerIp") && o.has("peerAsn"):
		return r.bgpPeering
	case o.has("securityRules") && o.has("defaultSecurityRules"):
		return r.securityGroup
	case o.has("addressSpace"):
		return r.vnet
	case o.has("ipConfigurations") && (o.has("enableIPForwarding") || o.has("macAddress") || o.has("virtualMachine")):
		return r.card
	}
	return nil
}
