// Package live asks Azure itself for what package audit reads: it finds the
// machine it runs on through the instance metadata service, signs in with its
// managed identity and calls the resource manager through Azure's SDK. It only
// reads. The answers go through audit.Read as files do, so there is one way of
// understanding them.
//
// The identity needs the role Reader on the network's resource groups, and the
// actions networkInterfaces/effectiveRouteTable/action,
// virtualHubs/bgpConnections/learnedRoutes/action and advertisedRoutes/action,
// which Network Contributor has and Reader has not (docs/audit.md has a role).
//
// Why the SDK and not net/http: docs/decisions/0010-azure-sdk.md. Only this
// package imports it.
package live
