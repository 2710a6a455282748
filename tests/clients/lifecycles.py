"""The life of an object, the same for every resource: a table, and the story that walks it."""

import dataclasses
import typing

NOWHERE = "6f70e656-0000-4000-8000-000000000000"


@dataclasses.dataclass
class Resource:
    """How a resource is called in the SDK, and what of it the story sends."""

    singular: str
    plural: str
    # Attributes of the objects that are made; `{}` is the number of the object, {NAME} what `needs` made.
    create: dict
    # A change, and what it must read afterwards.
    update: dict = dataclasses.field(default_factory=dict)
    # Attributes that cannot be sent together with the rest: each is refused as invalid.
    wrong: list = dataclasses.field(default_factory=list)
    # What it is made in: name -> (singular, attributes), made in this order.
    needs: dict = dataclasses.field(default_factory=dict)
    who: str = "red"
    named: bool = True
    tagged: bool = True
    # Whether the SDK can find it by its name.
    found: bool = True
    # Whether the SDK lets a caller insist on a revision.
    revised: bool = True
    # Whether the SDK hands on the order in which a list is asked for.
    sorted: bool = True
    # Attributes of the first object by which lists find it, and it alone.
    filters: typing.Sequence = ()
    # Objects that are there before.
    there: int = 0
    # Whether another project may not see it.
    private: bool = True


NET = {"NET": ("network", {"name": "of-the-story"})}
SUBNET = NET | {"SUB": ("subnet", {"network_id": "{NET}", "cidr": "10.0.0.0/16", "ip_version": 4})}
GROUP = {"GROUP": ("security_group", {"name": "of-the-story"})}

TABLE = [
    Resource(
        "network",
        "networks",
        create={"name": "n{}", "description": "number {}", "mtu": 1300, "is_admin_state_up": False},
        update={"description": "changed", "mtu": 1298, "is_admin_state_up": True, "is_port_security_enabled": False},
        wrong=[{"mtu": 1}, {"mtu": "words"}, {"dns_domain": "not a domain"}],
        filters=["name", "id", "description"],
    ),
    Resource(
        "subnet",
        "subnets",
        needs=NET,
        create={
            "name": "s{}",
            "network_id": "{NET}",
            "cidr": "10.{}.0.0/24",
            "ip_version": 4,
            "description": "number {}",
            "dns_nameservers": ["192.0.2.1"],
            "host_routes": [{"destination": "172.16.0.0/12", "nexthop": "10.{}.0.9"}],
        },
        update={"description": "changed", "is_dhcp_enabled": False, "dns_nameservers": [], "host_routes": []},
        wrong=[{"cidr": "words"}, {"ip_version": 5}, {"dns_nameservers": ["words"]}, {"gateway_ip": "10.99.0.1"}],
        filters=["name", "id", "cidr", "gateway_ip", "description"],
    ),
    Resource(
        "port",
        "ports",
        needs=SUBNET,
        create={
            "name": "p{}",
            "network_id": "{NET}",
            "fixed_ips": [{"subnet_id": "{SUB}", "ip_address": "10.0.0.10{}"}],
            "mac_address": "fa:16:3e:00:00:0{}",
            "device_id": "vm{}",
            "description": "number {}",
        },
        update={"description": "changed", "is_admin_state_up": False, "device_id": "other", "device_owner": "x"},
        wrong=[
            {"mac_address": "words"},
            {"fixed_ips": [{"ip_address": "10.99.0.1"}]},
            {"allowed_address_pairs": [{"ip_address": "words"}]},
            {"binding_vnic_type": "words"},
        ],
        filters=["name", "id", "mac_address", "device_id", "description"],
    ),
    Resource(
        "subnet_pool",
        "subnet_pools",
        create={
            "name": "sp{}",
            "prefixes": ["10.{}.0.0/16"],
            "default_prefix_length": 26,
            "minimum_prefix_length": 24,
            "description": "number {}",
        },
        update={"description": "changed", "default_quota": 1024, "maximum_prefix_length": 28},
        wrong=[{"prefixes": []}, {"prefixes": ["words"]}, {"default_prefix_length": 40}, {"default_quota": -2}],
        revised=False,
        filters=["name", "id", "description"],
    ),
    Resource(
        "address_scope",
        "address_scopes",
        create={"name": "as{}", "ip_version": 4},
        update={"name": "changed"},
        wrong=[{"ip_version": 5}, {"ip_version": None}],
        tagged=False,
        revised=False,
        filters=["name", "id"],
    ),
    Resource(
        "address_group",
        "address_groups",
        create={"name": "ag{}", "addresses": ["192.0.2.{}/32"], "description": "number {}"},
        update={"description": "changed"},
        wrong=[{"addresses": ["words"]}, {"addresses": "192.0.2.0/24"}],
        tagged=False,
        revised=False,
        filters=["name", "id", "description"],
    ),
    Resource(
        "security_group",
        "security_groups",
        create={"name": "sg{}", "description": "number {}", "stateful": False},
        update={"description": "changed", "stateful": True},
        wrong=[{"stateful": "words"}],
        there=1,
        filters=["name", "id", "description"],
    ),
    Resource(
        "security_group_rule",
        "security_group_rules",
        needs=GROUP,
        create={
            "security_group_id": "{GROUP}",
            "direction": "ingress",
            "protocol": "tcp",
            "port_range_min": "8{}",
            "port_range_max": "9{}",
            "remote_ip_prefix": "192.0.2.{}/32",
            "description": "number {}",
        },
        wrong=[
            {"direction": "words"},
            {"protocol": "words"},
            {"port_range_min": 0x10000},
            {"ether_type": "words"},
            {"remote_ip_prefix": "words"},
        ],
        named=False,
        tagged=False,
        there=6,
        filters=["id", "remote_ip_prefix", "port_range_min", "description"],
    ),
    Resource(
        "router",
        "routers",
        create={"name": "r{}", "description": "number {}", "is_admin_state_up": False},
        update={"description": "changed", "is_admin_state_up": True},
        wrong=[{"is_admin_state_up": "words"}, {"external_gateway_info": "words"}],
        filters=["name", "id", "description"],
    ),
    Resource(
        "trunk",
        "trunks",
        needs=NET | {f"PORT{n}": ("port", {"network_id": "{NET}"}) for n in (1, 2, 3)},
        create={"name": "t{}", "port_id": "{PORT{}}", "description": "number {}"},
        update={"name": "renamed", "description": "changed"},
        wrong=[{"is_admin_state_up": "words"}, {"sub_ports": "words"}],
        tagged=False,
        revised=False,
        sorted=False,
        filters=["name", "id", "port_id", "description"],
    ),
    Resource(
        "rbac_policy",
        "rbac_policies",
        needs={f"NET{n}": ("network", {"name": f"of-the-story-{n}"}) for n in (1, 2, 3)},
        create={
            "object_type": "network",
            "object_id": "{NET{}}",
            "action": "access_as_shared",
            "target_project_id": "{blue_project}",
        },
        update={"target_project_id": "{red_project}"},
        wrong=[{"action": "words"}, {"object_type": "words"}, {"target_project_id": ""}],
        named=False,
        tagged=False,
        revised=False,
        sorted=False,
        filters=["id", "object_id"],
    ),
]


def filled(value, number, made):
    """A template with its numbers and names replaced."""
    if isinstance(value, dict):
        return {key: filled(part, number, made) for key, part in value.items()}
    if isinstance(value, list):
        return [filled(part, number, made) for part in value]
    if not isinstance(value, str) or "{" not in value:
        return value
    value = value.replace("{}", str(number))
    for name, of in made.items():
        value = value.replace("{" + name + "}", of)
    return int(value) if value.isdigit() else value


def life(resource, scene):
    """From create to delete, through all that reads and changes on the way."""
    owner = getattr(scene, resource.who).network
    reader, stranger, operator = scene.reader.network, scene.blue.network, scene.operator.network

    def of(person, verb):
        return getattr(person, f"{verb}_{resource.singular}")

    made, parents = dict(scene.ids), []
    for name, (singular, attributes) in resource.needs.items():
        parent = getattr(owner, f"create_{singular}")(**filled(attributes, 0, made))
        parents.append((singular, parent))
        made[name] = parent.id
    bodies = [filled(resource.create, number, made) for number in (1, 2, 3)]

    # Create, one by one; what is wrong makes nothing.
    for wrong in resource.wrong:
        scene.invalid(of(owner, "create"), **(bodies[0] | wrong))
    scene.denied(of(reader, "create"), **bodies[0])
    objects = [of(owner, "create")(**body) for body in bodies]
    first = objects[0]
    for thing, body in zip(objects, bodies):
        for name, value in body.items():
            assert reads(thing, name) == value, f"{name} is {reads(thing, name)!r}, not {value!r}"
        assert reads(thing, "project_id") == scene.ids["red_project"]

    # Show, by whoever may see it.
    assert of(owner, "get")(first.id).id == first.id
    assert of(reader, "get")(first.id).id == first.id
    assert of(operator, "get")(first.id).id == first.id
    scene.missing(of(owner, "get"), NOWHERE)
    if resource.private:
        scene.missing(of(stranger, "get"), first.id)
    assert of(owner, "find")(first.id).id == first.id
    assert of(owner, "find")("nothing", ignore_missing=True) is None
    if resource.named:
        assert of(owner, "find")(first.name).id == first.id

    # Lists: filters, order, pages.
    every = getattr(owner, resource.plural)
    ours = {thing.id for thing in objects}
    listed = every()
    assert len(listed) == 3 + resource.there + sum(s == resource.singular for s, _ in parents), listed
    assert ours <= {thing.id for thing in listed}
    for name in resource.filters:
        value = bodies[0].get(name, first.id if name == "id" else reads(first, name))
        found = every(**{name: value})
        assert [thing.id for thing in found] == [first.id], f"{name}={value} finds {found}"
    ids = sorted(thing.id for thing in listed)
    if resource.sorted:
        assert [thing.id for thing in every(sort_key="id", sort_dir="desc")] == ids[::-1]
    for size in (1, 2):
        paged = every(limit=size)
        assert [thing.id for thing in paged] == ids
    assert [thing.id for thing in every(marker=ids[0])] == ids[1:]
    scene.missing(every, marker=NOWHERE)
    if resource.named:
        if resource.sorted:
            names = [thing.name for thing in every(sort_key="name", sort_dir="desc")]
            assert names == sorted(names, reverse=True) and len(names) == len(ids)
        several = every(name=[thing.name for thing in objects[:2]])
        assert {thing.id for thing in several} == {thing.id for thing in objects[:2]}
        assert [thing.name for thing in every(name=first.name, fields=["name"])] == [first.name]
    assert len(getattr(operator, resource.plural)(project_id=scene.ids["red_project"])) == len(listed)
    if resource.private:
        assert not ours & {thing.id for thing in getattr(stranger, resource.plural)()}

    # Tags.
    if resource.tagged:
        owner.set_tags(first, ["a", "b"])
        assert sorted(of(owner, "get")(first.id).tags) == ["a", "b"]
        owner.add_tag(first, "c")
        owner.add_tags(objects[1], ["c"])
        assert owner.check_tag(first, "c")
        assert [thing.id for thing in every(tags="a,b")] == [first.id]
        assert {thing.id for thing in every(any_tags="a,c")} == {first.id, objects[1].id}
        assert first.id not in {thing.id for thing in every(not_tags="a")}
        assert objects[1].id not in {thing.id for thing in every(not_any_tags="a,c")}
        owner.remove_tag(first, "a")
        assert sorted(owner.get_tags(first)) == ["b", "c"]
        owner.remove_all_tags(first)
        assert of(owner, "get")(first.id).tags == []
        scene.denied(reader.set_tags, first, ["mine"])

    # Change: what is sent, and only if it still is what the caller read.
    if resource.update:
        change = filled(resource.update, 0, made)
        changed = of(owner, "update")(first.id, **change)
        for name, value in change.items():
            assert reads(changed, name) == value, f"{name} is {reads(changed, name)!r}, not {value!r}"
        if resource.revised:
            was = of(owner, "get")(first.id).revision_number
            scene.outdated(of(owner, "update"), first.id, if_revision=was - 1, **change)
            again = of(owner, "update")(first.id, if_revision=was, name="renamed")
            assert (again.name, again.revision_number > was) == ("renamed", True)
        scene.denied(of(reader, "update"), first.id, **change)
        scene.missing(of(owner, "update"), NOWHERE, **change)
        if resource.private:
            scene.missing(of(stranger, "update"), first.id, **change)

    # Delete.
    scene.denied(of(reader, "delete"), first.id, ignore_missing=False)
    if resource.private:
        scene.missing(of(stranger, "delete"), first.id, ignore_missing=False)
    if resource.revised:
        now = of(owner, "get")(first.id).revision_number
        scene.outdated(of(owner, "delete"), first.id, ignore_missing=False, if_revision=now + 7)
        of(owner, "delete")(first.id, ignore_missing=False, if_revision=now)
    else:
        of(owner, "delete")(first.id, ignore_missing=False)
    scene.missing(of(owner, "delete"), first.id, ignore_missing=False)
    scene.missing(of(owner, "get"), first.id)
    for thing in objects[1:]:
        of(owner, "delete")(thing)
    assert not ours & {thing.id for thing in every()}
    for singular, parent in reversed(parents):
        getattr(owner, f"delete_{singular}")(parent)


def reads(thing, name):
    """An attribute of the SDK's object, in the form in which it was sent."""
    value = getattr(thing, name)
    if name == "fixed_ips":
        return [{"subnet_id": one["subnet_id"], "ip_address": one["ip_address"]} for one in value]
    return value


def stories():
    """One story a resource."""
    return [(f"the life of {resource.plural}", lambda scene, r=resource: life(r, scene)) for resource in TABLE]
