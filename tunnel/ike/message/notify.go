package message

import (
	"encoding/binary"
	"fmt"
)

// NotifyType is the type of a notification. Those below 16384 are errors.
type NotifyType uint16

// Errors, by the names of RFC 7296, section 3.10.1, and of IANA's registry.
const (
	UnsupportedCriticalPayload NotifyType = 1
	InvalidIKESPI              NotifyType = 4
	InvalidMajorVersion        NotifyType = 5
	InvalidSyntax              NotifyType = 7
	InvalidMessageID           NotifyType = 9
	InvalidSPI                 NotifyType = 11
	NoProposalChosen           NotifyType = 14
	InvalidKEPayload           NotifyType = 17
	AuthenticationFailed       NotifyType = 24
	SinglePairRequired         NotifyType = 34
	NoAdditionalSAs            NotifyType = 35
	InternalAddressFailure     NotifyType = 36
	FailedCPRequired           NotifyType = 37
	TSUnacceptable             NotifyType = 38
	InvalidSelectors           NotifyType = 39
	UnacceptableAddresses      NotifyType = 40
	UnexpectedNATDetected      NotifyType = 41
	UseAssignedHoA             NotifyType = 42
	TemporaryFailure           NotifyType = 43
	ChildSANotFound            NotifyType = 44
	InvalidGroupID             NotifyType = 45
	AuthorizationFailed        NotifyType = 46
	StateNotFound              NotifyType = 47 // RFC 9370
	TSMaxQueue                 NotifyType = 48
)

// Status notifications, by the same. Most have no use here but to be named in a log.
const (
	InitialContact              NotifyType = 16384
	SetWindowSize               NotifyType = 16385
	AdditionalTSPossible        NotifyType = 16386
	IPCompSupported             NotifyType = 16387
	NATDetectionSourceIP        NotifyType = 16388
	NATDetectionDestinationIP   NotifyType = 16389
	Cookie                      NotifyType = 16390
	UseTransportMode            NotifyType = 16391
	HTTPCertLookupSupported     NotifyType = 16392
	RekeySA                     NotifyType = 16393
	ESPTFCPaddingNotSupported   NotifyType = 16394
	NonFirstFragmentsAlso       NotifyType = 16395
	MobikeSupported             NotifyType = 16396
	AdditionalIPv4Address       NotifyType = 16397
	AdditionalIPv6Address       NotifyType = 16398
	NoAdditionalAddresses       NotifyType = 16399
	UpdateSAAddresses           NotifyType = 16400
	Cookie2                     NotifyType = 16401
	NoNATsAllowed               NotifyType = 16402
	AuthLifetime                NotifyType = 16403
	MultipleAuthSupported       NotifyType = 16404
	AnotherAuthFollows          NotifyType = 16405
	RedirectSupported           NotifyType = 16406
	Redirect                    NotifyType = 16407
	RedirectedFrom              NotifyType = 16408
	TicketLTOpaque              NotifyType = 16409
	TicketRequest               NotifyType = 16410
	TicketACK                   NotifyType = 16411
	TicketNACK                  NotifyType = 16412
	TicketOpaque                NotifyType = 16413
	LinkID                      NotifyType = 16414
	UseWESPMode                 NotifyType = 16415
	ROHCSupported               NotifyType = 16416
	EAPOnlyAuthentication       NotifyType = 16417
	ChildlessIKEv2Supported     NotifyType = 16418
	QuickCrashDetection         NotifyType = 16419
	IKEv2MessageIDSyncSupported NotifyType = 16420
	IPsecReplayCounterSync      NotifyType = 16421
	IKEv2MessageIDSync          NotifyType = 16422
	IPsecReplayCounter          NotifyType = 16423
	SecurePasswordMethods       NotifyType = 16424
	IKEv2FragmentationSupported NotifyType = 16430 // RFC 7383
	SignatureHashAlgorithms     NotifyType = 16431 // RFC 7427
	CloneIKESASupported         NotifyType = 16432
	CloneIKESA                  NotifyType = 16433
	Puzzle                      NotifyType = 16434
	UsePPK                      NotifyType = 16435 // RFC 8784
	PPKIdentity                 NotifyType = 16436 // RFC 8784
	NoPPKAuth                   NotifyType = 16437 // RFC 8784
	IntermediateExchangeSupport NotifyType = 16438 // RFC 9242
	IP4Allowed                  NotifyType = 16439
	IP6Allowed                  NotifyType = 16440
	AdditionalKeyExchange       NotifyType = 16441 // RFC 9370
	UseAggFrag                  NotifyType = 16442
	SupportedAuthMethods        NotifyType = 16443
	SAResourceInfo              NotifyType = 16444
	UsePPKInt                   NotifyType = 16445
	PPKIdentityKey              NotifyType = 16446
)

var notifyNames = map[NotifyType]string{
	UnsupportedCriticalPayload: "UNSUPPORTED_CRITICAL_PAYLOAD", InvalidIKESPI: "INVALID_IKE_SPI",
	InvalidMajorVersion: "INVALID_MAJOR_VERSION", InvalidSyntax: "INVALID_SYNTAX", InvalidMessageID: "INVALID_MESSAGE_ID",
	InvalidSPI: "INVALID_SPI", NoProposalChosen: "NO_PROPOSAL_CHOSEN", InvalidKEPayload: "INVALID_KE_PAYLOAD",
	AuthenticationFailed: "AUTHENTICATION_FAILED", SinglePairRequired: "SINGLE_PAIR_REQUIRED",
	NoAdditionalSAs: "NO_ADDITIONAL_SAS", InternalAddressFailure: "INTERNAL_ADDRESS_FAILURE",
	FailedCPRequired: "FAILED_CP_REQUIRED", TSUnacceptable: "TS_UNACCEPTABLE", InvalidSelectors: "INVALID_SELECTORS",
	UnacceptableAddresses: "UNACCEPTABLE_ADDRESSES", UnexpectedNATDetected: "UNEXPECTED_NAT_DETECTED",
	UseAssignedHoA: "USE_ASSIGNED_HoA", TemporaryFailure: "TEMPORARY_FAILURE", ChildSANotFound: "CHILD_SA_NOT_FOUND",
	InvalidGroupID: "INVALID_GROUP_ID", AuthorizationFailed: "AUTHORIZATION_FAILED", StateNotFound: "STATE_NOT_FOUND",
	TSMaxQueue: "TS_MAX_QUEUE",

	InitialContact: "INITIAL_CONTACT", SetWindowSize: "SET_WINDOW_SIZE", AdditionalTSPossible: "ADDITIONAL_TS_POSSIBLE",
	IPCompSupported: "IPCOMP_SUPPORTED", NATDetectionSourceIP: "NAT_DETECTION_SOURCE_IP",
	NATDetectionDestinationIP: "NAT_DETECTION_DESTINATION_IP", Cookie: "COOKIE", UseTransportMode: "USE_TRANSPORT_MODE",
	HTTPCertLookupSupported: "HTTP_CERT_LOOKUP_SUPPORTED", RekeySA: "REKEY_SA",
	ESPTFCPaddingNotSupported: "ESP_TFC_PADDING_NOT_SUPPORTED", NonFirstFragmentsAlso: "NON_FIRST_FRAGMENTS_ALSO",
	MobikeSupported: "MOBIKE_SUPPORTED", AdditionalIPv4Address: "ADDITIONAL_IP4_ADDRESS",
	AdditionalIPv6Address: "ADDITIONAL_IP6_ADDRESS", NoAdditionalAddresses: "NO_ADDITIONAL_ADDRESSES",
	UpdateSAAddresses: "UPDATE_SA_ADDRESSES", Cookie2: "COOKIE2", NoNATsAllowed: "NO_NATS_ALLOWED",
	AuthLifetime: "AUTH_LIFETIME", MultipleAuthSupported: "MULTIPLE_AUTH_SUPPORTED", AnotherAuthFollows: "ANOTHER_AUTH_FOLLOWS",
	RedirectSupported: "REDIRECT_SUPPORTED", Redirect: "REDIRECT", RedirectedFrom: "REDIRECTED_FROM",
	TicketLTOpaque: "TICKET_LT_OPAQUE", TicketRequest: "TICKET_REQUEST", TicketACK: "TICKET_ACK", TicketNACK: "TICKET_NACK",
	TicketOpaque: "TICKET_OPAQUE", LinkID: "LINK_ID", UseWESPMode: "USE_WESP_MODE", ROHCSupported: "ROHC_SUPPORTED",
	EAPOnlyAuthentication: "EAP_ONLY_AUTHENTICATION", ChildlessIKEv2Supported: "CHILDLESS_IKEV2_SUPPORTED",
	QuickCrashDetection: "QUICK_CRASH_DETECTION", IKEv2MessageIDSyncSupported: "IKEV2_MESSAGE_ID_SYNC_SUPPORTED",
	IPsecReplayCounterSync: "IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED", IKEv2MessageIDSync: "IKEV2_MESSAGE_ID_SYNC",
	IPsecReplayCounter: "IPSEC_REPLAY_COUNTER_SYNC", SecurePasswordMethods: "SECURE_PASSWORD_METHODS",
	IKEv2FragmentationSupported: "IKEV2_FRAGMENTATION_SUPPORTED", SignatureHashAlgorithms: "SIGNATURE_HASH_ALGORITHMS",
	CloneIKESASupported: "CLONE_IKE_SA_SUPPORTED", CloneIKESA: "CLONE_IKE_SA", Puzzle: "PUZZLE", UsePPK: "USE_PPK",
	PPKIdentity: "PPK_IDENTITY", NoPPKAuth: "NO_PPK_AUTH", IntermediateExchangeSupport: "INTERMEDIATE_EXCHANGE_SUPPORTED",
	IP4Allowed: "IP4_ALLOWED", IP6Allowed: "IP6_ALLOWED", AdditionalKeyExchange: "ADDITIONAL_KEY_EXCHANGE",
	UseAggFrag: "USE_AGGFRAG", SupportedAuthMethods: "SUPPORTED_AUTH_METHODS", SAResourceInfo: "SA_RESOURCE_INFO",
	UsePPKInt: "USE_PPK_INT", PPKIdentityKey: "PPK_IDENTITY_KEY",
}

func (t NotifyType) String() string { return name(notifyNames, t) }

// Error reports whether the notification says that something failed. An error
// that is not known counts as one too (RFC 7296, section 3.10.1).
func (t NotifyType) Error() bool { return t < InitialContact }

// HashesData is the data of SIGNATURE_HASH_ALGORITHMS (RFC 7427, section 4).
func HashesData(hashes []Hash) []byte {
	var b []byte
	for _, h := range hashes {
		b = binary.BigEndian.AppendUint16(b, uint16(h))
	}
	return b
}

// Hashes reads the data of SIGNATURE_HASH_ALGORITHMS, at most 64 of them.
func (p Notify) Hashes() ([]Hash, error) {
	if len(p.Data)%2 != 0 || len(p.Data) > 128 {
		return nil, fmt.Errorf("%s with %d bytes", p.Notify, len(p.Data))
	}
	var out []Hash
	for b := p.Data; len(b) > 0; b = b[2:] {
		out = append(out, Hash(binary.BigEndian.Uint16(b)))
	}
	return out, nil
}

// KeyExchange reads the data of INVALID_KE_PAYLOAD: the method that is wanted.
func (p Notify) KeyExchange() (KeyExchange, error) {
	if len(p.Data) != 2 {
		return 0, fmt.Errorf("%s with %d bytes of data, not 2", p.Notify, len(p.Data))
	}
	return KeyExchange(binary.BigEndian.Uint16(p.Data)), nil
}

// WantKE is INVALID_KE_PAYLOAD, which names the method that the sender wants (RFC 7296, section 1.3).
func WantKE(k KeyExchange) Notify {
	return Notify{Notify: InvalidKEPayload, Data: binary.BigEndian.AppendUint16(nil, uint16(k))}
}
