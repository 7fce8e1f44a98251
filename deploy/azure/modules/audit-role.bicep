// What "transitctl audit --live" may: read, and ask for effective, learned and advertised routes, which are actions.
param prefix string

resource role 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(resourceGroup().id, prefix, 'transitd audit')
  properties: {
    roleName: 'transitd audit (${prefix}, ${resourceGroup().name})'
    description: 'Reads the network around the NVAs'
    type: 'CustomRole'
    permissions: [
      {
        actions: [
          'Microsoft.Network/*/read'
          'Microsoft.Network/networkInterfaces/effectiveRouteTable/action'
          'Microsoft.Network/virtualHubs/bgpConnections/learnedRoutes/action'
          'Microsoft.Network/virtualHubs/bgpConnections/advertisedRoutes/action'
        ]
        notActions: []
      }
    ]
    assignableScopes: [
      resourceGroup().id
    ]
  }
}

output roleId string = role.id
