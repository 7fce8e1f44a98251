// The two VNets see each other directly. Forwarded packets are let through, and neither uses the other's gateway or Route
// Server: that is what makes the tunnel's outer packets follow a route that BGP cannot change.
param hubVnetName string
param transitVnetName string

resource hub 'Microsoft.Network/virtualNetworks@2024-10-01' existing = {
  name: hubVnetName
}

resource transit 'Microsoft.Network/virtualNetworks@2024-10-01' existing = {
  name: transitVnetName
}

resource toTransit 'Microsoft.Network/virtualNetworks/virtualNetworkPeerings@2024-10-01' = {
  parent: hub
  name: 'to-transit'
  properties: {
    remoteVirtualNetwork: {
      id: transit.id
    }
    allowVirtualNetworkAccess: true
    allowForwardedTraffic: true
    allowGatewayTransit: false
    useRemoteGateways: false
  }
}

resource toHub 'Microsoft.Network/virtualNetworks/virtualNetworkPeerings@2024-10-01' = {
  parent: transit
  name: 'to-hub'
  properties: {
    remoteVirtualNetwork: {
      id: hub.id
    }
    allowVirtualNetworkAccess: true
    allowForwardedTraffic: true
    allowGatewayTransit: false
    useRemoteGateways: false
  }
}
