// What makes routes in a VNet: the ExpressRoute gateway with its circuit, and the Route Server.
param location string
param prefix string
param site object
param vnetName string
param expressRouteGateway bool
param gatewaySku string
param circuitId string

@secure()
param authorizationKey string

resource vnet 'Microsoft.Network/virtualNetworks@2024-10-01' existing = {
  name: vnetName
}

resource gatewayAddress 'Microsoft.Network/publicIPAddresses@2024-10-01' = if (expressRouteGateway) {
  name: '${prefix}-${site.name}-ergw-ip'
  location: location
  sku: {
    name: 'Standard'
  }
  zones: [
    '1'
    '2'
    '3'
  ]
  properties: {
    publicIPAllocationMethod: 'Static'
  }
}

resource gateway 'Microsoft.Network/virtualNetworkGateways@2024-10-01' = if (expressRouteGateway) {
  name: '${prefix}-${site.name}-ergw'
  location: location
  properties: {
    gatewayType: 'ExpressRoute'
    sku: {
      name: gatewaySku
      tier: gatewaySku
    }
    ipConfigurations: [
      {
        name: 'default'
        properties: {
          privateIPAllocationMethod: 'Dynamic'
          subnet: {
            id: '${vnet.id}/subnets/GatewaySubnet'
          }
          publicIPAddress: {
            id: gatewayAddress.id
          }
        }
      }
    ]
  }
}

resource connection 'Microsoft.Network/connections@2024-10-01' = if (expressRouteGateway && !empty(circuitId)) {
  name: '${prefix}-${site.name}-circuit'
  location: location
  properties: {
    connectionType: 'ExpressRoute'
    virtualNetworkGateway1: {
      id: gateway.id
      properties: {}
    }
    peer: {
      id: circuitId
    }
    authorizationKey: empty(authorizationKey) ? null : authorizationKey
  }
}

resource routeServerAddress 'Microsoft.Network/publicIPAddresses@2024-10-01' = {
  name: '${prefix}-${site.name}-ars-ip'
  location: location
  sku: {
    name: 'Standard'
  }
  properties: {
    publicIPAllocationMethod: 'Static'
  }
}

// In Azure's model a Route Server is a virtual hub. Branch-to-branch is on: without it neither the NVA's routes reach the
// gateway nor the gateway's the NVA. After the gateway: making one beside the other takes traffic down for minutes.
resource routeServer 'Microsoft.Network/virtualHubs@2024-10-01' = {
  name: '${prefix}-${site.name}-ars'
  location: location
  properties: {
    sku: 'Standard'
    allowBranchToBranchTraffic: true
  }
  dependsOn: [
    gateway
    connection
  ]
}

resource routeServerSubnet 'Microsoft.Network/virtualHubs/ipConfigurations@2024-10-01' = {
  parent: routeServer
  name: 'default'
  properties: {
    subnet: {
      id: '${vnet.id}/subnets/RouteServerSubnet'
    }
    publicIPAddress: {
      id: routeServerAddress.id
    }
  }
}

output routeServerName string = routeServer.name
