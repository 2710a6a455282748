"""What resources can do beyond their life: a story each, told by calls of openstacksdk."""

import uuid


def networks(scene):
    """Bulk, shared and external networks, provider attributes, the older calls of the SDK."""
    red, blue, operator = scene.red, scene.blue, scene.operator
    net = red.create_network("net", port_security_enabled=False, mtu_size=1300)
    assert (net.mtu, net.is_port_security_enabled, net.status) == (1300, False, "ACTIVE")
    scene.denied(red.network.create_network, name="x", is_shared=True)
    scene.denied(red.network.create_network, name="x", is_router_external=True)
    scene.denied(red.network.update_network, net.id, is_shared=True)
    assert red.network.get_network(net.id).provider_network_type is None
    shown = operator.network.get_network(net.id)
    assert (shown.provider_network_type, shown.project_id) == ("geneve", scene.ids["red_project"])
    found = operator.network.networks(provider_segmentation_id=shown.provider_segmentation_id)
    assert [network.id for network in found] == [net.id]
    operator.network.update_network(net.id, is_shared=True)
    assert blue.network.get_network(net.id).is_shared
    assert [network.id for network in blue.network.networks(is_shared=True)] == [net.id]
    scene.denied(blue.network.update_network, net.id, name="mine")
    operator.network.update_network(net.id, is_shared=False)
    outside = operator.create_network("outside", external=True)
    assert [network.id for network in red.get_external_ipv4_networks()] == [outside.id]
    assert [network.name for network in red.search_networks(filters={"mtu": 1300})] == ["net"]
    assert red.get_network("net").id == net.id and red.get_network_by_id(net.id).name == "net"
    assert [network.id for network in red.list_networks({"name": "net"})] == [net.id]
    assert red.update_network("net", name="net2").name == "net2"
    assert red.delete_network("net2") and not red.delete_network("net2")
    assert operator.delete_network("outside")


def subnets(scene):
    """Ranges of pools, gateways, allocation pools."""
    red = scene.red
    net = red.create_network("net")
    sub = red.create_subnet("net", cidr="10.1.0.0/24", subnet_name="sub", enable_dhcp=True, gateway_ip="10.1.0.254")
    assert (sub.gateway_ip, sub.allocation_pools) == ("10.1.0.254", [{"start": "10.1.0.1", "end": "10.1.0.253"}])
    none = red.create_subnet("net", cidr="10.2.0.0/24", subnet_name="none", disable_gateway_ip=True)
    assert none.gateway_ip is None
    pools = [{"start": "10.2.0.9", "end": "10.2.0.19"}]
    changed = red.update_subnet("none", gateway_ip="10.2.0.1", allocation_pools=pools)
    assert (changed.gateway_ip, changed.allocation_pools) == ("10.2.0.1", pools)
    assert red.update_subnet("none", disable_gateway_ip=True).gateway_ip is None
    overlapping = {"network_id": net.id, "ip_version": 4, "cidr": "10.1.0.128/25"}
    scene.invalid(red.network.create_subnet, **overlapping, says="10.1.0.128/25")
    scene.invalid(red.network.update_subnet, none.id, allocation_pools=[{"start": "10.9.0.1", "end": "10.9.0.2"}])
    scene.invalid(red.network.create_subnet, network_id=str(uuid.uuid4()), ip_version=4)
    pool = red.network.create_subnet_pool(name="pool", prefixes=["10.64.0.0/10"], default_prefix_length=24)
    assert red.get_subnetpool("pool").id == pool.id
    scene.invalid(red.network.create_subnet, network_id=net.id, ip_version=4, subnet_pool_id=pool.id)
    pooled = {"network_id": red.create_network("pooled").id, "ip_version": 4, "subnet_pool_id": pool.id}
    first = red.network.create_subnet(**pooled)
    second = red.network.create_subnet(**pooled, prefix_length=26)
    assert (first.cidr, second.cidr) == ("10.64.0.0/24", "10.64.1.0/26")
    assert {s.id for s in red.network.subnets(subnet_pool_id=pool.id)} == {first.id, second.id}
    scene.invalid(red.network.delete_subnet_pool, pool.id)
    assert {s.name for s in red.search_subnets(filters={"network_id": net.id})} >= {"sub", "none"}
    assert red.get_subnet("sub").id == sub.id and red.get_subnet_by_id(sub.id).name == "sub"
    assert red.delete_subnet("sub") and not red.delete_subnet("sub")
    assert red.delete_network("net") and red.delete_network("pooled")
    red.network.delete_subnet_pool(pool.id)


def ports(scene):
    """Bulk, addresses of subnets, address pairs, security, what an operator binds."""
    red, operator = scene.red, scene.operator
    net = red.create_network("net")
    sub = red.create_subnet("net", cidr="10.1.0.0/24", subnet_name="sub")
    bulk = red.network.create_ports([{"network_id": net.id, "name": f"p{n}"} for n in range(5)])
    assert sorted(port.name for port in bulk) == ["p0", "p1", "p2", "p3", "p4"]
    assert len({port.fixed_ips[0]["ip_address"] for port in bulk}) == 5
    taken = {"network_id": net.id, "fixed_ips": [{"ip_address": bulk[0].fixed_ips[0]["ip_address"]}]}
    scene.conflict(red.network.create_ports, [{"network_id": net.id, "name": "no"}, taken])
    assert red.list_ports({"name": "no"}) == []
    port = red.create_port(
        net.id,
        name="port",
        fixed_ips=[{"subnet_id": sub.id}],
        allowed_address_pairs=[{"ip_address": "10.1.0.200", "mac_address": "fa:16:3e:00:00:99"}],
        device_owner="compute:nova",
    )
    assert port.allowed_address_pairs[0]["ip_address"] == "10.1.0.200"
    assert red.network.get_port(port.id).status == "DOWN"
    assert port.id in {one.id for one in red.network.get_subnet_ports(sub.id)}
    for query in (
        {"device_owner": "compute:nova"},
        {"fixed_ips": f"ip_address={port.fixed_ips[0]['ip_address']}"},
        {"fixed_ips": [f"subnet_id={sub.id}", f"ip_address={port.fixed_ips[0]['ip_address']}"]},
    ):
        assert [one.id for one in red.network.ports(**query)] == [port.id], query
    assert len(red.network.ports(network_id=net.id, limit=2)) == 6
    group = red.network.create_security_group(name="group")
    red.network.update_port(port.id, security_group_ids=[group.id])
    assert [one.id for one in red.network.ports(security_group_ids=[group.id])] == [port.id]
    scene.conflict(red.network.delete_security_group, group.id)
    scene.conflict(red.network.update_port, port.id, is_port_security_enabled=False)
    red.network.update_port(port.id, security_groups=[], allowed_address_pairs=[], is_port_security_enabled=False)
    scene.denied(red.network.update_port, port.id, binding_host_id="h1")
    bound = operator.network.update_port(port.id, binding_host_id="h1", binding_profile={"key": "value"})
    assert (bound.binding_host_id, bound.status, bound.binding_profile) == ("h1", "BUILD", {"key": "value"})
    assert [one.id for one in operator.network.ports(binding_host_id="h1")] == [port.id]
    assert red.network.get_port(port.id).binding_host_id is None
    failed = operator.network.update_port(bulk[0].id, binding_host_id="nowhere")
    assert (failed.binding_vif_type, failed.status) == ("binding_failed", "ERROR")
    assert red.update_port("port", name="port2").name == "port2"
    assert red.get_port("port2").id == port.id and red.get_port_by_id(port.id).name == "port2"
    assert [one.id for one in red.search_ports(filters={"name": "port2"})] == [port.id]
    assert red.delete_port("port2") and not red.delete_port("port2")
    for one in bulk:
        red.network.delete_port(one)
    red.network.delete_security_group(group)
    assert red.delete_network("net")


def bindings(scene):
    """A port is bound to two hosts while what uses it moves from one to the other."""
    red, operator = scene.red.network, scene.operator.network
    net = red.create_network(name="net")
    red.create_subnet(network_id=net.id, cidr="10.1.0.0/24", ip_version=4)
    port = red.create_port(network_id=net.id, device_owner="compute:az1", device_id="vm")
    operator.update_port(port.id, binding_host_id="h1")
    binding = operator.create_port_binding(port, host="h2")
    assert (binding.host, binding.status) == ("h2", "INACTIVE")
    scene.conflict(operator.create_port_binding, port, host="h2")
    assert {(b.host, b.status) for b in operator.port_bindings(port)} == {("h1", "ACTIVE"), ("h2", "INACTIVE")}
    scene.denied(red.create_port_binding, port, host="h2")
    operator.activate_port_binding(port, host="h2")
    assert operator.get_port(port.id).binding_host_id == "h2"
    assert {(b.host, b.status) for b in operator.port_bindings(port)} == {("h1", "INACTIVE"), ("h2", "ACTIVE")}
    operator.delete_port_binding(port, host="h1")
    assert [b.host for b in operator.port_bindings(port)] == ["h2"]
    red.delete_port(port)
    red.delete_network(net)


def security_groups(scene):
    """The default group, many rules at once, remote groups, templates."""
    red, operator = scene.red, scene.operator
    default = red.network.find_security_group("default")
    scene.conflict(red.network.delete_security_group, default.id, ignore_missing=False)
    scene.conflict(red.network.create_security_group, name="default")
    web = red.create_security_group("web", "for the web", stateful=False)
    rule = red.create_security_group_rule("web", 80, 80, "tcp", "192.0.2.0/24")
    assert (rule.port_range_min, rule.remote_ip_prefix) == (80, "192.0.2.0/24")
    one = {"security_group_id": web.id, "direction": "ingress"}
    rules = [one | {"protocol": "udp", "port_range_min": port, "port_range_max": port} for port in (53, 123)]
    assert len(red.network.create_security_group_rules(rules)) == 2
    scene.conflict(red.network.create_security_group_rules, rules)
    member = red.network.create_security_group_rule(**one, remote_group_id=web.id)
    assert member.remote_group_id == web.id
    scene.invalid(red.network.create_security_group_rule, **one, remote_group_id=web.id, remote_ip_prefix="0.0.0.0/0")
    scene.missing(red.network.create_security_group_rule, **one, remote_group_id=str(uuid.uuid4()))
    scene.missing(red.network.create_security_group_rule, security_group_id=str(uuid.uuid4()), direction="ingress")
    group = red.network.create_address_group(name="addresses", addresses=["192.0.2.0/24"])
    group = red.network.add_addresses_to_address_group(group, ["198.51.100.0/24"])
    assert sorted(group.addresses) == ["192.0.2.0/24", "198.51.100.0/24"]
    group = red.network.remove_addresses_from_address_group(group, ["192.0.2.0/24"])
    assert group.addresses == ["198.51.100.0/24"]
    scene.missing(red.network.remove_addresses_from_address_group, group, ["192.0.2.0/24"])
    scene.invalid(red.network.add_addresses_to_address_group, group, ["words"])
    remote = red.network.create_security_group_rule(**one, remote_address_group_id=group.id)
    scene.conflict(red.network.delete_address_group, group.id)
    assert {r.id for r in red.network.security_group_rules(remote_address_group_id=group.id)} == {remote.id}
    assert red.update_security_group("web", description="changed", stateful=True).description == "changed"
    shown = red.get_security_group("web")
    assert shown.stateful and {r["id"] for r in shown.security_group_rules} >= {rule.id, member.id, remote.id}
    assert red.get_security_group_by_id(web.id).id == web.id
    assert {g.name for g in red.list_security_groups()} == {"default", "web"}
    assert red.delete_security_group_rule(rule.id)
    scene.missing(red.delete_security_group_rule, rule.id)
    assert red.delete_security_group("web")
    red.network.delete_address_group(group.id)

    template = operator.network.create_default_security_group_rule(
        direction="ingress", protocol="tcp", port_range_min=22, port_range_max=22, used_in_non_default_sg=True
    )
    assert operator.network.get_default_security_group_rule(template.id).port_range_min == 22
    assert [t.id for t in red.network.default_security_group_rules(protocol="tcp")] == [template.id]
    scene.denied(red.network.create_default_security_group_rule, direction="ingress")
    templated = red.network.create_security_group(name="templated")
    assert 22 in [r["port_range_min"] for r in templated.security_group_rules]
    red.network.delete_security_group(templated)
    operator.network.delete_default_security_group_rule(template.id)


def routers(scene):
    """Interfaces by subnet and port, extra routes, gateways."""
    red, operator = scene.red, scene.operator
    outside = operator.create_network("outside", external=True)
    outsub = operator.create_subnet("outside", cidr="203.0.113.0/24", enable_dhcp=False, subnet_name="outsub")
    red.create_network("net")
    sub = red.create_subnet("net", cidr="10.1.0.0/24", subnet_name="sub")
    sub2 = red.create_subnet("net", cidr="10.2.0.0/24", subnet_name="sub2")
    router = red.create_router("router", ext_gateway_net_id=outside.id)
    assert router.external_gateway_info["network_id"] == outside.id
    added = red.add_router_interface(router, subnet_id=sub.id)
    assert added["subnet_id"] == sub.id
    port = red.create_port(sub2.network_id, fixed_ips=[{"subnet_id": sub2.id, "ip_address": "10.2.0.9"}])
    assert red.network.add_interface_to_router(router.id, port_id=port.id)["port_id"] == port.id
    assert len(red.list_router_interfaces(router, "internal")) == 2
    scene.invalid(red.network.add_interface_to_router, router.id, subnet_id=sub.id)
    scene.missing(red.network.add_interface_to_router, router.id, subnet_id=str(uuid.uuid4()))
    scene.conflict(red.network.delete_port, port.id)
    scene.conflict(red.network.delete_subnet, sub.id)
    scene.conflict(red.network.delete_router, router.id)
    route = {"destination": "172.16.0.0/12", "nexthop": "10.1.0.7"}
    other = {"destination": "192.168.0.0/16", "nexthop": "10.2.0.7"}
    assert red.network.update_router(router.id, routes=[route]).routes == [route]
    body = {"router": {"routes": [other]}}
    both = red.network.add_extra_routes_to_router(router.id, body)
    assert sorted(r["destination"] for r in both.routes) == ["172.16.0.0/12", "192.168.0.0/16"]
    assert red.network.remove_extra_routes_from_router(router.id, body).routes == [route]
    scene.invalid(red.network.update_router, router.id, routes=[{"destination": "0.0.0.0/0", "nexthop": "10.99.0.1"}])
    scene.conflict(red.network.remove_interface_from_router, router.id, subnet_id=sub.id)
    red.network.update_router(router.id, routes=[])
    red.remove_router_interface(router, subnet_id=sub.id)
    red.network.remove_interface_from_router(router.id, port_id=port.id)
    scene.missing(red.network.remove_interface_from_router, router.id, subnet_id=sub.id)
    plain = {"network_id": outside.id, "enable_snat": False}
    scene.denied(red.network.update_router, router.id, external_gateway_info=plain)
    fixed = {"subnet_id": outsub.id, "ip_address": "203.0.113.99"}
    gateway = {"network_id": outside.id, "enable_snat": False, "external_fixed_ips": [fixed]}
    shown = operator.network.update_router(router.id, external_gateway_info=gateway).external_gateway_info
    assert (shown["enable_snat"], shown["external_fixed_ips"]) == (False, [fixed])
    assert red.update_router("router", name="router2").name == "router2"
    assert [r.id for r in red.search_routers(filters={"name": "router2"})] == [router.id]
    assert red.get_router("router2").id == router.id and len(red.list_routers()) == 1
    assert red.network.update_router(router.id, external_gateway_info={}).external_gateway_info is None
    assert red.delete_router("router2") and not red.delete_router("router2")
    assert red.delete_network("net") and operator.delete_network("outside")


def floating_ips(scene):
    """Floating IPs, with and without a port."""
    red, operator = scene.red, scene.operator
    outside = operator.create_network("outside", external=True)
    operator.create_subnet("outside", cidr="203.0.113.0/24", enable_dhcp=False)
    net = red.create_network("net")
    sub = red.create_subnet("net", cidr="10.1.0.0/24", subnet_name="sub")
    router = red.create_router("router", ext_gateway_net_id=outside.id)
    red.add_router_interface(router, subnet_id=sub.id)
    port = red.create_port(net.id, name="port")
    free = red.network.create_ip(floating_network_id=outside.id, description="free")
    assert (free.port_id, free.status) == (None, "DOWN")
    assert red.network.find_available_ip().id == free.id
    used = red.network.create_ip(floating_network_id=outside.id, port_id=port.id)
    assert (used.router_id, used.fixed_ip_address) == (router.id, port.fixed_ips[0]["ip_address"])
    assert used.port_details["network_id"] == net.id
    scene.conflict(red.network.create_ip, floating_network_id=outside.id, port_id=port.id)
    scene.invalid(red.network.create_ip, floating_network_id=net.id)
    scene.denied(red.network.create_ip, floating_network_id=outside.id, floating_ip_address="203.0.113.9")
    scene.denied(scene.reader.network.create_ip, floating_network_id=outside.id)
    for query in ({"port_id": port.id}, {"router_id": router.id}, {"fixed_ip_address": used.fixed_ip_address}):
        assert [ip.id for ip in red.network.ips(**query)] == [used.id], query
    assert [ip.id for ip in red.network.ips(floating_ip_address=free.floating_ip_address)] == [free.id]
    assert len(red.network.ips(floating_network_id=outside.id, limit=1)) == 2
    assert red.network.find_ip(free.floating_ip_address).id == free.id
    scene.conflict(red.network.remove_interface_from_router, router.id, subnet_id=sub.id)
    assert red.network.update_ip(used.id, port_id=None).fixed_ip_address is None
    assert red.network.update_ip(free.id, port_id=port.id, description="used").description == "used"
    red.network.set_tags(free, ["a"])
    assert [ip.id for ip in red.network.ips(tags="a")] == [free.id]
    scene.missing(scene.blue.network.get_ip, free.id)
    assert {ip.id for ip in red.list_floating_ips()} == {free.id, used.id}
    assert red.get_floating_ip_by_id(free.id).id == free.id
    assert red.delete_floating_ip(free.id) and not red.delete_floating_ip(free.id)
    red.network.delete_ip(used)
    red.remove_router_interface(router, subnet_id=sub.id)
    red.network.delete_port(port)
    assert red.delete_router("router") and red.delete_network("net") and operator.delete_network("outside")


def quotas(scene):
    """Quotas are shown, set, reset, and kept to."""
    red, operator, project = scene.red, scene.operator, scene.ids["red_project"]
    assert red.network.get_quota(project).networks == 100
    assert red.network.get_quota_default(project).ports == 500
    scene.denied(red.network.update_quota, project, networks=5)
    assert operator.network.update_quota(project, networks=2, ports=1).networks == 2
    assert [quota.networks for quota in operator.network.quotas()] == [2]
    one = red.create_network("one")
    red.create_network("two")
    scene.conflict(red.network.create_network, name="three", says="Quota exceeded for resources: ['network']")
    red.create_subnet("one", cidr="10.1.0.0/24")
    two = [{"network_id": one.id}, {"network_id": one.id}]
    scene.conflict(red.network.create_ports, two, says="Quota exceeded for resources: ['port']")
    assert red.list_ports() == []
    details = operator.network.get_quota(project, details=True)
    assert (details.networks["used"], details.networks["limit"], details.ports["used"]) == (2, 2, 0)
    scene.invalid(operator.network.update_quota, project, networks=1, check_limit=True)
    scene.invalid(operator.network.update_quota, project, networks=-2)
    operator.set_network_quotas("red", networks=1, force=True)
    assert operator.get_network_quotas("red").networks == 1
    operator.delete_network_quotas("red")
    assert red.network.get_quota(project).networks == 100
    assert red.delete_network("one") and red.delete_network("two")


def rbac(scene):
    """What a policy shares is seen and used, and cannot be taken back meanwhile."""
    red, blue, operator = scene.red, scene.blue, scene.operator
    net = red.create_network("net")
    red.create_subnet("net", cidr="10.1.0.0/24")
    target = scene.ids["blue_project"]
    one = {"object_type": "network", "object_id": net.id, "action": "access_as_shared"}
    policy = red.network.create_rbac_policy(**one, target_project_id=target)
    assert blue.network.get_network(net.id).is_shared
    scene.conflict(red.network.create_rbac_policy, **one, target_project_id=target)
    scene.denied(red.network.create_rbac_policy, **one, target_project_id="*")
    scene.missing(blue.network.get_rbac_policy, policy.id)
    port = blue.network.create_port(network_id=net.id)
    scene.conflict(red.network.delete_rbac_policy, policy.id)
    scene.conflict(red.network.update_rbac_policy, policy.id, target_project_id=scene.ids["red_project"])
    blue.network.delete_port(port)
    everybody = operator.network.create_rbac_policy(**one, target_project_id="*")
    assert operator.network.get_network(net.id).is_shared
    operator.network.delete_rbac_policy(everybody)
    red.network.delete_rbac_policy(policy)
    scene.missing(blue.network.get_network, net.id)
    assert red.delete_network("net")


def qos(scene):
    """Policies, each kind of rule, and what uses them."""
    red, operator = scene.red.network, scene.operator.network
    policy = operator.create_qos_policy(name="gold", description="words", is_shared=True)
    assert (policy.is_shared, policy.rules) == (True, [])
    assert operator.find_qos_policy("gold").id == policy.id
    assert [p.name for p in operator.qos_policies(name="gold")] == ["gold"]
    assert operator.update_qos_policy(policy.id, description="changed").description == "changed"
    kinds = [
        ("bandwidth_limit", {"max_kbps": 1000, "max_burst_kbps": 100, "direction": "egress"}, {"max_kbps": 900}),
        ("dscp_marking", {"dscp_mark": 26}, {"dscp_mark": 46}),
        ("minimum_bandwidth", {"min_kbps": 100, "direction": "egress"}, {"min_kbps": 90}),
        ("minimum_packet_rate", {"min_kpps": 100, "direction": "any"}, {"min_kpps": 90}),
        ("packet_rate_limit", {"max_kpps": 100, "max_burst_kpps": 10, "direction": "egress"}, {"max_kpps": 90}),
    ]
    for kind, attributes, change in kinds:
        def of(verb, who=operator):
            return getattr(who, f"{verb}_qos_{kind}_rule")

        rule = of("create")(policy, **attributes)
        assert {name: getattr(rule, name) for name in attributes} == attributes
        scene.conflict(of("create"), policy, **attributes)
        scene.denied(of("create", red), policy, **attributes)
        assert of("get")(rule.id, policy).id == rule.id
        assert [r.id for r in getattr(operator, f"qos_{kind}_rules")(policy)] == [rule.id]
        changed = of("update")(rule.id, policy, **change)
        assert {name: getattr(changed, name) for name in change} == change
        of("delete")(rule.id, policy, ignore_missing=False)
        scene.missing(of("get"), rule.id, policy)
    assert {t.type for t in red.qos_rule_types()} >= {kind for kind, _, _ in kinds}
    assert operator.get_qos_rule_type("dscp_marking").type == "dscp_marking"
    net = red.create_network(name="net", qos_policy_id=policy.id)
    port = red.create_port(network_id=net.id)
    assert (net.qos_policy_id, port.qos_network_policy_id, port.qos_policy_id) == (policy.id, policy.id, None)
    assert red.update_port(port.id, qos_policy_id=policy.id).qos_policy_id == policy.id
    scene.conflict(operator.delete_qos_policy, policy.id)
    red.delete_port(port)
    red.delete_network(net)
    operator.delete_qos_policy(policy.id)


def trunks(scene):
    """Ports join and leave a trunk."""
    red = scene.red.network
    net = red.create_network(name="net")
    parent, one, two = (red.create_port(network_id=net.id, name=name) for name in ("parent", "one", "two"))
    member = {"port_id": one.id, "segmentation_type": "vlan", "segmentation_id": 101}
    trunk = red.create_trunk(name="trunk", port_id=parent.id, sub_ports=[member])
    assert trunk.sub_ports == [member]
    red.set_tags(trunk, ["a"])
    assert [t.id for t in red.trunks(tags="a")] == [trunk.id]
    more = {"port_id": two.id, "segmentation_type": "vlan", "segmentation_id": 102}
    assert red.add_trunk_subports(trunk.id, [more]).sub_ports == [member, more]
    scene.conflict(red.add_trunk_subports, trunk.id, [more])
    scene.invalid(red.add_trunk_subports, trunk.id, [more | {"segmentation_id": 4095}])
    assert [m["port_id"] for m in red.get_trunk_subports(trunk.id)["sub_ports"]] == [one.id, two.id]
    assert red.get_port(one.id).device_owner == "trunk:subport"
    assert red.get_port(parent.id).trunk_details["trunk_id"] == trunk.id
    scene.conflict(red.delete_port, one.id)
    assert red.delete_trunk_subports(trunk.id, [{"port_id": two.id}]).sub_ports == [member]
    scene.missing(red.delete_trunk_subports, trunk.id, [{"port_id": two.id}])
    red.delete_trunk(trunk)
    for port in (parent, one, two):
        red.delete_port(port)
    red.delete_network(net)


def cloud(scene):
    """Agents, zones, addresses in use, extensions, providers."""
    red, operator = scene.red, scene.operator
    agents = operator.network.agents()
    assert sorted(agent.host for agent in agents) == ["h1", "h2"]
    assert [agent.host for agent in operator.network.agents(host="h1")] == ["h1"]
    assert len(operator.network.agents(limit=1)) == 2
    agent = operator.network.get_agent(agents[0].id)
    assert (agent.is_alive, agent.is_admin_state_up, agent.binary) == (True, True, "mizar-agent")
    assert operator.network.update_agent(agent.id, description="words").description == "words"
    operator.network.update_agent(agent.id, description=None)
    scene.invalid(operator.network.update_agent, agent.id, is_admin_state_up=False)
    scene.conflict(operator.network.delete_agent, agent.id)
    scene.denied(red.network.get_agent, agent.id)
    scene.denied(red.network.agents)
    zones = red.network.availability_zones()
    assert {(zone.name, zone.resource, zone.state) for zone in zones} >= {("az1", "network", "available")}
    assert red.network.service_providers() == []
    extensions = {extension.alias for extension in red.network.extensions()}
    assert extensions >= {"router", "security-group", "address-group", "quotas", "agent", "external-net"}
    assert red.network.find_extension("router").name == "Neutron L3 Router"
    assert red.network.find_extension("nothing") is None
    assert set(red.get_network_extensions()) == extensions
    net = red.create_network("net")
    red.create_subnet("net", cidr="10.1.0.0/24")
    port = red.create_port(net.id)
    used = red.network.get_network_ip_availability(net.id)
    assert (used.total_ips, used.used_ips, used.network_name) == (253, 1, "net")
    assert [a.network_id for a in red.network.network_ip_availabilities(network_name="net")] == [net.id]
    assert red.network.find_network_ip_availability(net.id).network_name == "net"
    assert scene.blue.network.network_ip_availabilities() == []
    red.network.delete_port(port)
    assert red.delete_network("net")


def identity(scene):
    """Projects, users, domains, roles, assignments, application credentials, tokens, catalog."""
    operator, red, own = scene.operator.identity, scene.red.identity, scene.ids["red_user"]
    project = operator.create_project(name="p", description="words")
    assert operator.get_project(project.id).description == "words"
    assert operator.find_project("p").id == project.id
    assert operator.update_project(project.id, description="changed").description == "changed"
    assert [p.name for p in operator.projects(name="p")] == ["p"]
    scene.conflict(operator.create_project, name="p")
    scene.invalid(operator.create_project, name="")
    user = operator.create_user(name="u", password="first", email="u@example.org", default_project_id=project.id)
    assert operator.get_user(user.id).email == "u@example.org"
    assert operator.update_user(user.id, description="words").description == "words"
    assert [u.name for u in operator.users(name="u")] == ["u"]
    assert operator.find_user("u").id == user.id
    scene.conflict(operator.create_user, name="u")
    role = operator.create_role(name="observer")
    assert operator.find_role("observer").id == role.id
    assert operator.update_role(role.id, name="watcher").name == "watcher"
    assert [r.name for r in operator.roles(name="watcher")] == ["watcher"]
    scene.conflict(operator.create_role, name="admin")
    operator.assign_project_role_to_user(project, user, role)
    assert operator.validate_user_has_project_role(project, user, role)
    assert [a.role["id"] for a in operator.role_assignments(user_id=user.id)] == [role.id]
    assert [p.name for p in operator.user_projects(user)] == ["p"]
    operator.unassign_project_role_from_user(project, user, role)
    assert not operator.validate_user_has_project_role(project, user, role)
    operator.assign_system_role_to_user(user, role, "all")
    assert operator.validate_user_has_system_role(user, role, "all")
    operator.unassign_system_role_from_user(user, role, "all")
    domain = operator.create_domain(name="d")
    operator.assign_domain_role_to_user(domain, user, role)
    assert operator.validate_user_has_domain_role(domain, user, role)
    operator.unassign_domain_role_from_user(domain, user, role)
    assert [d.name for d in operator.domains(name="d")] == ["d"]
    scene.denied(operator.delete_domain, domain.id)
    operator.update_domain(domain.id, is_enabled=False)
    operator.delete_domain(domain.id)
    for function, what in [(red.create_project, "x"), (red.create_user, "x"), (red.create_role, "x")]:
        scene.denied(function, name=what)
    scene.denied(red.users)
    assert red.get_user(own).name == "red"
    credential = red.create_application_credential(own, name="robot", roles=[{"name": "member"}])
    assert credential.secret and not credential.unrestricted
    assert [c.name for c in red.application_credentials(own)] == ["robot"]
    assert red.get_application_credential(own, credential.id).id == credential.id
    assert red.find_application_credential(own, "robot").id == credential.id
    scene.conflict(red.create_application_credential, own, name="robot")
    scene.denied(scene.blue.identity.application_credentials, own)
    red.delete_application_credential(own, credential)
    scene.missing(red.get_application_credential, own, credential.id)
    assert {s.type for s in operator.services()} == {"identity", "network"}
    assert {e.interface for e in operator.endpoints()} == {"public", "internal", "admin"}
    assert [r.id for r in operator.regions()] == ["RegionOne"]
    operator.delete_role(role)
    operator.delete_user(user)
    operator.delete_project(project)
    scene.missing(operator.get_project, project.id)


def stories():
    """Every story, by its name."""
    told = [networks, subnets, ports, bindings, security_groups, routers, floating_ips]
    told += [quotas, rbac, qos, trunks, cloud, identity]
    return [(story.__name__.replace("_", " "), story) for story in told]
