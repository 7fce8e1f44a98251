// The whole two-VNet design (docs/azure-quickstart.md): two VNets, peered; in each an ExpressRoute gateway, a Route Server
// and one or two NVAs that run transitd.
targetScope = 'resourceGroup'

@description('Where everything is made.')
param location string = resourceGroup().location

@description('Begins every name.')
@maxLength(12)
param prefix string = 'transitd'

@description('NVAs in each VNet. With two there is an internal load balancer in front of each pair.')
@minValue(1)
@maxValue(2)
param nvasPerSite int = 1

@description('Whether both NVAs of a VNet carry traffic (true), or the second stands by (false: what firewalls with state behind them need).')
param activeActive bool = false

@description('The VNet with on-prem behind it. The NVA subnet\'s fourth address and those after it are the NVAs\'.')
param hub object = {
  name: 'hub'
  asn: 64512
  vnet: '10.0.0.0/16'
  gatewaySubnet: '10.0.0.0/27'
  routeServerSubnet: '10.0.1.0/26'
  nvaSubnet: '10.0.2.0/27'
}

@description('The VNet with AVS behind it.')
param transit object = {
  name: 'transit'
  asn: 64513
  vnet: '10.1.0.0/16'
  gatewaySubnet: '10.1.0.0/27'
  routeServerSubnet: '10.1.1.0/26'
  nvaSubnet: '10.1.2.0/27'
}

@description('Whether to make the ExpressRoute gateways: 40 minutes, and the largest part of the costs. Without them there are only VNets to try it with.')
param expressRouteGateways bool = true

@description('SKU of the gateways: ErGw1AZ, ErGw2AZ, ErGw3AZ.')
param gatewaySku string = 'ErGw1AZ'

@description('Resource ID of the circuit to on-prem; empty: connected later.')
param hubCircuitId string = ''

@secure()
@description('Authorization key of that circuit, if it belongs to another subscription.')
param hubAuthorizationKey string = ''

@description('Resource ID of the circuit of AVS (the private cloud\'s page has it).')
param transitCircuitId string = ''

@secure()
@description('Authorization key of AVS\' circuit, made in the private cloud.')
param transitAuthorizationKey string = ''

@description('What passes the NVAs: they let it in and forward it. Tunnels and BGP have rules of their own.')
param carriedPrefixes array = [
  '10.0.0.0/8'
  '172.16.0.0/12'
  '192.168.0.0/16'
]

@description('From where SSH to the NVAs is let in; empty: from nowhere (run-command and the serial console still work).')
param sshFrom string = ''

@secure()
@description('Where the NVAs fetch transitd\'s .deb from: HTTPS, without a login or with a SAS.')
param packageUrl string

@description('SHA-256 of that file, in hex: without it nothing is installed.')
@minLength(64)
@maxLength(64)
param packageSha256 string

@description('Size of the NVAs. Accelerated networking is switched on: it needs two processors or more.')
param vmSize string = 'Standard_D4s_v5'

@description('Whether the NVAs reach the Internet by a NAT gateway: at least while they are installed they have to, somehow.')
param natGateway bool = true

@description('Login of the NVAs.')
param adminUsername string = 'azureuser'

@description('Public SSH key of that login.')
param adminPublicKey string

// The first three addresses of a subnet are Azure's (and cidrHost counts from .1).
var hubAddresses = [for i in range(0, nvasPerSite): cidrHost(hub.nvaSubnet, 3 + i)]
var transitAddresses = [for i in range(0, nvasPerSite): cidrHost(transit.nvaSubnet, 3 + i)]

module hubNetwork 'modules/network.bicep' = {
  name: '${prefix}-hub-network'
  params: {
    location: location
    prefix: prefix
    site: hub
    peerNvaSubnet: transit.nvaSubnet
    carriedPrefixes: carriedPrefixes
    sshFrom: sshFrom
    natGateway: natGateway
  }
}

module transitNetwork 'modules/network.bicep' = {
  name: '${prefix}-transit-network'
  params: {
    location: location
    prefix: prefix
    site: transit
    peerNvaSubnet: hub.nvaSubnet
    carriedPrefixes: carriedPrefixes
    sshFrom: sshFrom
    natGateway: natGateway
  }
}

// Before the Route Servers: one whose VNet gets a peering asks all its neighbours for everything again.
module peering 'modules/peering.bicep' = {
  name: '${prefix}-peering'
  params: {
    hubVnetName: hubNetwork.outputs.vnetName
    transitVnetName: transitNetwork.outputs.vnetName
  }
}

module hubEdge 'modules/edge.bicep' = {
  name: '${prefix}-hub-edge'
  params: {
    location: location
    prefix: prefix
    site: hub
    vnetName: hubNetwork.outputs.vnetName
    expressRouteGateway: expressRouteGateways
    gatewaySku: gatewaySku
    circuitId: hubCircuitId
    authorizationKey: hubAuthorizationKey
  }
  dependsOn: [
    peering
  ]
}

module transitEdge 'modules/edge.bicep' = {
  name: '${prefix}-transit-edge'
  params: {
    location: location
    prefix: prefix
    site: transit
    vnetName: transitNetwork.outputs.vnetName
    expressRouteGateway: expressRouteGateways
    gatewaySku: gatewaySku
    circuitId: transitCircuitId
    authorizationKey: transitAuthorizationKey
  }
  dependsOn: [
    peering
  ]
}

module auditRole 'modules/audit-role.bicep' = {
  name: '${prefix}-audit-role'
  params: {
    prefix: prefix
  }
}

module hubNvas 'modules/nvas.bicep' = {
  name: '${prefix}-hub-nvas'
  params: {
    location: location
    prefix: prefix
    site: hub
    peerAsn: transit.asn
    first: true
    addresses: hubAddresses
    peerAddresses: transitAddresses
    activeActive: activeActive
    subnetId: hubNetwork.outputs.nvaSubnetId
    routeServerName: hubEdge.outputs.routeServerName
    expressRouteGateway: expressRouteGateways
    auditRoleId: auditRole.outputs.roleId
    vmSize: vmSize
    adminUsername: adminUsername
    adminPublicKey: adminPublicKey
    packageUrl: packageUrl
    packageSha256: packageSha256
  }
}

module transitNvas 'modules/nvas.bicep' = {
  name: '${prefix}-transit-nvas'
  params: {
    location: location
    prefix: prefix
    site: transit
    peerAsn: hub.asn
    first: false
    addresses: transitAddresses
    peerAddresses: hubAddresses
    activeActive: activeActive
    subnetId: transitNetwork.outputs.nvaSubnetId
    routeServerName: transitEdge.outputs.routeServerName
    expressRouteGateway: expressRouteGateways
    auditRoleId: auditRole.outputs.roleId
    vmSize: vmSize
    adminUsername: adminUsername
    adminPublicKey: adminPublicKey
    packageUrl: packageUrl
    packageSha256: packageSha256
  }
}

@description('Names of the virtual machines, each also the name of its transitd node.')
output nvas array = concat(hubNvas.outputs.names, transitNvas.outputs.names)
output hubNvaAddresses array = hubAddresses
output transitNvaAddresses array = transitAddresses
output hubRouteServer string = hubEdge.outputs.routeServerName
output transitRouteServer string = transitEdge.outputs.routeServerName
