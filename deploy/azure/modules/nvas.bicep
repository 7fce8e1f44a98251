// The NVAs of one side, with their configurations, and the Route Server's sessions to them.
param location string
param prefix string
param site object
param peerAsn int

@description('True on one side, false on the other: who has the first address of each tunnel.')
param first bool

param addresses array
param peerAddresses array
param activeActive bool
param subnetId string
param routeServerName string
param expressRouteGateway bool
param auditRoleId string
param vmSize string
param adminUsername string
param adminPublicKey string

@secure()
param packageUrl string

param packageSha256 string

var count = length(addresses)
var names = [for i in range(0, count): '${prefix}-${site.name}-nva-${i + 1}']
var mine = first ? 1 : 2
var theirs = first ? 2 : 1
var probePort = 8474

// Tunnel number k leads from NVA k / count of the first side to NVA k % count of the other; each has a /30 and a VNI.
var across = [for i in range(0, count): map(range(0, count), j => '- {name: tr${j}, remote: ${peerAddresses[j]}, address: 169.254.77.${4 * (first ? i * count + j : j * count + i) + mine}/30, peer_address: 169.254.77.${4 * (first ? i * count + j : j * count + i) + theirs}, vxlan: {vni: ${7700 + (first ? i * count + j : j * count + i)}}, bgp: {asn: ${peerAsn}}}')]

// Siblings, if there are two.
var beside = [for i in range(0, count): count == 1 ? [] : [
  '- {name: ha0, remote: ${addresses[1 - i]}, address: 169.254.78.${i + 1}/30, peer_address: 169.254.78.${2 - i}, vxlan: {vni: 7800}, bgp: {asn: ${site.asn}}}'
]]

var balancerAddress = cidrHost(site.nvaSubnet, 3 + count)
var nextHop = count == 1 ? '' : 'next_hop: ${balancerAddress}'
var health = count == 1 ? '' : 'ha: {probe_listen: 0.0.0.0:${probePort}}'

var vnetPrefixes = site.vnet
var configurations = [for i in range(0, count): reduce([
  ['__NODE__', names[i]]
  ['__ASN__', string(site.asn)]
  ['__SITE__', site.name]
  ['__PRIORITY__', string(activeActive ? 0 : i)]
  ['__ROUTE_SERVER_SUBNET__', site.routeServerSubnet]
  ['__MAX_GATEWAY_ROUTES__', expressRouteGateway ? '1000' : '0']
  ['__NEXT_HOP__', nextHop]
  ['__TUNNELS__', join(concat(across[i], beside[i]), '\n  ')]
  ['__VNET__', vnetPrefixes]
  ['__HA__', health]
], loadTextContent('../nva.yaml'), (text, one) => replace(text, one[0], one[1]))]

var machines = [for i in range(0, count): reduce([
  ['__CONFIGURATION__', replace(configurations[i], '\n', '\n      ')]
  ['__NODE__', names[i]]
  ['__PACKAGE_SHA256__', packageSha256]
], loadTextContent('../cloud-init.yaml'), (text, one) => replace(text, one[0], one[1]))]

// Asked for here and not taken from another module: its two addresses are known only after it has its subnet.
resource routeServer 'Microsoft.Network/virtualHubs@2024-10-01' existing = {
  name: routeServerName
}

resource balancer 'Microsoft.Network/loadBalancers@2024-10-01' = if (count > 1) {
  name: '${prefix}-${site.name}-nva-lb'
  location: location
  sku: {
    name: 'Standard'
  }
  properties: {
    frontendIPConfigurations: [
      {
        name: 'nvas'
        zones: [
          '1'
          '2'
          '3'
        ]
        properties: {
          privateIPAllocationMethod: 'Static'
          privateIPAddress: balancerAddress
          subnet: {
            id: subnetId
          }
        }
      }
    ]
    backendAddressPools: [
      {
        name: 'nvas'
      }
    ]
    probes: [
      {
        name: 'forwards'
        properties: {
          protocol: 'Http'
          port: probePort
          requestPath: '/'
          intervalInSeconds: 5
          numberOfProbes: 1
          probeThreshold: 1
        }
      }
    ]
    loadBalancingRules: [
      {
        name: 'everything'
        properties: {
          protocol: 'All'
          frontendPort: 0
          backendPort: 0
          frontendIPConfiguration: {
            id: resourceId('Microsoft.Network/loadBalancers/frontendIPConfigurations', '${prefix}-${site.name}-nva-lb', 'nvas')
          }
          backendAddressPool: {
            id: resourceId('Microsoft.Network/loadBalancers/backendAddressPools', '${prefix}-${site.name}-nva-lb', 'nvas')
          }
          probe: {
            id: resourceId('Microsoft.Network/loadBalancers/probes', '${prefix}-${site.name}-nva-lb', 'forwards')
          }
        }
      }
    ]
  }
}

resource cards 'Microsoft.Network/networkInterfaces@2024-10-01' = [for i in range(0, count): {
  name: '${names[i]}-nic'
  location: location
  properties: {
    enableIPForwarding: true
    enableAcceleratedNetworking: true
    ipConfigurations: [
      {
        name: 'default'
        properties: {
          primary: true
          privateIPAllocationMethod: 'Static'
          privateIPAddress: addresses[i]
          subnet: {
            id: subnetId
          }
          loadBalancerBackendAddressPools: count == 1 ? [] : [
            {
              id: resourceId('Microsoft.Network/loadBalancers/backendAddressPools', '${prefix}-${site.name}-nva-lb', 'nvas')
            }
          ]
        }
      }
    ]
  }
  dependsOn: [
    balancer
  ]
}]

resource vms 'Microsoft.Compute/virtualMachines@2024-11-01' = [for i in range(0, count): {
  name: names[i]
  location: location
  zones: [
    string(i + 1)
  ]
  identity: {
    type: 'SystemAssigned'
  }
  properties: {
    hardwareProfile: {
      vmSize: vmSize
    }
    storageProfile: {
      imageReference: {
        publisher: 'Canonical'
        offer: 'ubuntu-24_04-lts'
        sku: 'server'
        version: 'latest'
      }
      osDisk: {
        createOption: 'FromImage'
        managedDisk: {
          storageAccountType: 'Premium_LRS'
        }
      }
    }
    osProfile: {
      computerName: names[i]
      adminUsername: adminUsername
      customData: base64(replace(replace(machines[i], '__ROUTE_SERVER_ADDRESSES__', join(routeServer.properties.virtualRouterIps, ', ')), '__PACKAGE_URL__', packageUrl))
      linuxConfiguration: {
        disablePasswordAuthentication: true
        ssh: {
          publicKeys: [
            {
              path: '/home/${adminUsername}/.ssh/authorized_keys'
              keyData: adminPublicKey
            }
          ]
        }
      }
    }
    securityProfile: {
      securityType: 'TrustedLaunch'
      uefiSettings: {
        secureBootEnabled: true
        vTpmEnabled: true
      }
    }
    networkProfile: {
      networkInterfaces: [
        {
          id: cards[i].id
        }
      ]
    }
    diagnosticsProfile: {
      bootDiagnostics: {
        enabled: true
      }
    }
  }
}]

// One after the other: a Route Server refuses a change while it makes another.
@batchSize(1)
resource sessions 'Microsoft.Network/virtualHubs/bgpConnections@2024-10-01' = [for i in range(0, count): {
  parent: routeServer
  name: names[i]
  properties: {
    peerAsn: site.asn
    peerIp: addresses[i]
  }
  dependsOn: [
    cards[i]
  ]
}]

resource audits 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for i in range(0, count): {
  name: guid(resourceGroup().id, names[i], auditRoleId)
  properties: {
    roleDefinitionId: auditRoleId
    principalId: vms[i].identity.principalId
    principalType: 'ServicePrincipal'
  }
}]

output names array = names
