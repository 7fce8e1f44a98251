// One VNet: its subnets, and who may reach the NVAs.
param location string
param prefix string
param site object
param peerNvaSubnet string
param carriedPrefixes array
param sshFrom string
param natGateway bool

// VXLAN, IKE, ESP in UDP, and a range for WireGuard: a port for each tunnel.
var tunnelPorts = [
  '4789'
  '500'
  '4500'
  '51820-51829'
]

var sshRules = empty(sshFrom) ? [] : [
  {
    name: 'ssh'
    properties: {
      description: 'Administration'
      priority: 140
      direction: 'Inbound'
      access: 'Allow'
      protocol: 'Tcp'
      sourceAddressPrefix: sshFrom
      sourcePortRange: '*'
      destinationAddressPrefix: site.nvaSubnet
      destinationPortRange: '22'
    }
  }
]

resource nsg 'Microsoft.Network/networkSecurityGroups@2024-10-01' = {
  name: '${prefix}-${site.name}-nva-nsg'
  location: location
  properties: {
    securityRules: concat([
      {
        name: 'tunnels'
        properties: {
          description: 'Tunnels between the NVAs, and between those of one side'
          priority: 100
          direction: 'Inbound'
          access: 'Allow'
          protocol: 'Udp'
          sourceAddressPrefixes: [
            peerNvaSubnet
            site.nvaSubnet
          ]
          sourcePortRange: '*'
          destinationAddressPrefix: site.nvaSubnet
          destinationPortRanges: tunnelPorts
        }
      }
      {
        name: 'tunnels-of-others'
        properties: {
          description: 'VXLAN knows no password: nobody else may send it, also not from inside the VNet'
          priority: 110
          direction: 'Inbound'
          access: 'Deny'
          protocol: 'Udp'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefix: site.nvaSubnet
          destinationPortRanges: tunnelPorts
        }
      }
      {
        name: 'bgp'
        properties: {
          description: 'The Route Server\'s two instances'
          priority: 120
          direction: 'Inbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefix: site.routeServerSubnet
          sourcePortRange: '*'
          destinationAddressPrefix: site.nvaSubnet
          destinationPortRange: '179'
        }
      }
      {
        name: 'bgp-of-others'
        properties: {
          description: 'Sessions between NVAs run inside the tunnels'
          priority: 130
          direction: 'Inbound'
          access: 'Deny'
          protocol: 'Tcp'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefix: site.nvaSubnet
          destinationPortRange: '179'
        }
      }
      {
        name: 'nva-itself'
        properties: {
          description: 'What is for the NVA and is none of the above, but for the load balancer\'s probe'
          priority: 190
          direction: 'Inbound'
          access: 'Deny'
          protocol: 'Tcp'
          sourceAddressPrefix: 'VirtualNetwork'
          sourcePortRange: '*'
          destinationAddressPrefix: site.nvaSubnet
          destinationPortRange: '*'
        }
      }
      {
        name: 'carried'
        properties: {
          description: 'What is forwarded'
          priority: 200
          direction: 'Inbound'
          access: 'Allow'
          protocol: '*'
          sourceAddressPrefixes: carriedPrefixes
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
      {
        name: 'carried-out'
        properties: {
          description: 'What is forwarded, on its way out: the default rules know only the VNets\' own prefixes'
          priority: 200
          direction: 'Outbound'
          access: 'Allow'
          protocol: '*'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefixes: carriedPrefixes
          destinationPortRange: '*'
        }
      }
    ], sshRules)
  }
}

// The NVA's own way to the Internet does not follow a default route that it announces itself: the card would send it back.
// What the Route Server and the gateway tell must stay switched on.
resource routes 'Microsoft.Network/routeTables@2024-10-01' = {
  name: '${prefix}-${site.name}-nva-routes'
  location: location
  properties: {
    disableBgpRoutePropagation: false
    routes: [
      {
        name: 'internet'
        properties: {
          addressPrefix: '0.0.0.0/0'
          nextHopType: 'Internet'
        }
      }
    ]
  }
}

resource natAddress 'Microsoft.Network/publicIPAddresses@2024-10-01' = if (natGateway) {
  name: '${prefix}-${site.name}-nat-ip'
  location: location
  sku: {
    name: 'Standard'
  }
  properties: {
    publicIPAllocationMethod: 'Static'
  }
}

resource nat 'Microsoft.Network/natGateways@2024-10-01' = if (natGateway) {
  name: '${prefix}-${site.name}-nat'
  location: location
  sku: {
    name: 'Standard'
  }
  properties: {
    publicIpAddresses: [
      {
        id: natAddress.id
      }
    ]
  }
}

// The subnets are properties of the VNet: as resources of their own a second deployment would remove them for a moment.
resource vnet 'Microsoft.Network/virtualNetworks@2024-10-01' = {
  name: '${prefix}-${site.name}-vnet'
  location: location
  properties: {
    addressSpace: {
      addressPrefixes: [
        site.vnet
      ]
    }
    subnets: [
      {
        name: 'GatewaySubnet'
        properties: {
          addressPrefix: site.gatewaySubnet
        }
      }
      {
        name: 'RouteServerSubnet'
        properties: {
          addressPrefix: site.routeServerSubnet
        }
      }
      {
        name: 'nva'
        properties: {
          addressPrefix: site.nvaSubnet
          networkSecurityGroup: {
            id: nsg.id
          }
          routeTable: {
            id: routes.id
          }
          natGateway: natGateway ? {
            id: nat.id
          } : null
        }
      }
    ]
  }
}

output vnetName string = vnet.name
output nvaSubnetId string = '${vnet.id}/subnets/nva'
