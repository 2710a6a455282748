"""A network, a subnet and a port, from create to delete, with the generated client."""

import os

from mizar_client import AuthenticatedClient
from mizar_client.api.networks import create_network, delete_network
from mizar_client.api.ports import create_port, delete_port, list_ports, show_port, update_port
from mizar_client.api.subnets import create_subnet, delete_subnet
from mizar_client.models import (
    NetworkCreate,
    NeutronError,
    NewNetwork,
    NewPort,
    NewSubnet,
    OneNetwork,
    OnePort,
    OneSubnet,
    PortCreate,
    PortUpdate,
    SubnetCreate,
    SubnetCreateIpVersion,
    UpdatePortBody,
)

server = AuthenticatedClient(
    base_url=os.environ["MIZAR_URL"],
    token=os.environ["MIZAR_TOKEN"],
    prefix="",
    auth_header_name="X-Auth-Token",
    raise_on_unexpected_status=True,
)

made = create_network.sync(client=server, body=NewNetwork(NetworkCreate(name="generated")))
assert isinstance(made, OneNetwork), made
network = made.network.id

subnet = SubnetCreate(cidr="10.0.0.0/24", ip_version=SubnetCreateIpVersion.VALUE_4, network_id=network)
made = create_subnet.sync(client=server, body=NewSubnet(subnet))
assert isinstance(made, OneSubnet), made
subnet = str(made.subnet.id)

made = create_port.sync(client=server, body=NewPort(PortCreate(network_id=network)))
assert isinstance(made, OnePort), made
port = made.port.id

listed = list_ports.sync(client=server, network_id=[str(network)])
assert [each.id for each in listed.ports] == [port], listed

shown = show_port.sync(str(port), client=server).port
assert (shown.id, shown.network_id, len(shown.fixed_ips)) == (port, network, 1), shown

updated = update_port.sync(str(port), client=server, body=UpdatePortBody(PortUpdate(name="renamed")))
assert updated.port.name == "renamed", updated

assert delete_port.sync_detailed(str(port), client=server).status_code == 204
missing = show_port.sync_detailed(str(port), client=server)
assert missing.status_code == 404 and isinstance(missing.parsed, NeutronError), missing
assert missing.parsed.neutron_error.type_ == "PortNotFound", missing
assert delete_subnet.sync_detailed(subnet, client=server).status_code == 204
assert delete_network.sync_detailed(str(network), client=server).status_code == 204
print("done")
