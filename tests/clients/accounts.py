"""The accounts that both suites use, made by openstacksdk, and what nobody may leave behind."""

import openstack

PASSWORD = "a secret of the tests"

# Collections that are empty before and after each story.
EMPTY = [
    "address_groups",
    "address_scopes",
    "ips",
    "networks",
    "ports",
    "qos_policies",
    "rbac_policies",
    "routers",
    "subnet_pools",
    "subnets",
    "trunks",
]


class Cloud:
    """A server, its administrator, and tenants."""

    def __init__(self, url, password):
        self.url, self._before = url, set()
        self.operator = self.connect("admin", "admin", password)
        self.passwords = {"operator": ("admin", "admin", password)}
        identity = self.operator.identity
        self.ids = {"admin_project": self.operator.current_project_id, "admin_user": self.operator.current_user_id}
        self.ids |= {"admin_password": password, "password": PASSWORD}
        roles = {role.name: role.id for role in identity.roles()}
        for name, project, role in [("red", "red", "member"), ("blue", "blue", "member"), ("reader", "red", "reader")]:
            if f"{project}_project" not in self.ids:
                self.ids[f"{project}_project"] = identity.create_project(name=project).id
            user = identity.create_user(name=name, password=PASSWORD)
            self.ids[f"{name}_user"] = user.id
            identity.assign_project_role_to_user(self.ids[f"{project}_project"], user, roles[role])
            self.passwords[name] = (name, project, PASSWORD)

    def connect(self, user, project, password):
        """A connection of the SDK."""
        return openstack.connect(
            load_envvars=False,
            load_yaml_config=False,
            auth_type="password",
            region_name="RegionOne",
            auth={
                "auth_url": f"{self.url}/v3",
                "username": user,
                "password": password,
                "project_name": project,
                "user_domain_id": "default",
                "project_domain_id": "default",
            },
        )

    def of(self, name):
        """The connection of one of them."""
        return self.operator if name == "operator" else self.connect(*self.passwords[name])

    def address(self):
        """Options of the command that say where the server is."""
        return ["--os-auth-url", f"{self.url}/v3", "--os-identity-api-version", "3", "--os-region-name", "RegionOne"]

    def options(self):
        """For everybody, the options of the command to log in."""
        domains = ["--os-user-domain-id", "default", "--os-project-domain-id", "default"]
        return {
            name: [
                *self.address(), *domains,
                "--os-username", user, "--os-project-name", project, "--os-password", password,
            ]
            for name, (user, project, password) in self.passwords.items()
        }

    def left(self):
        """What is there, should not be, and was not there when this was asked before."""
        found = set(self._left())
        new, self._before = found - self._before, found
        return sorted(new)

    def _left(self):
        network = self.operator.network
        for kind in EMPTY:
            for thing in getattr(network, kind)():
                yield f"{kind}: {thing.name} {thing.id}"
        for group in network.security_groups():
            if group.name != "default":
                yield f"security_groups: {group.name}"
        projects = {project.name for project in self.operator.identity.projects()}
        yield from (f"project {name}" for name in sorted(projects - {"admin", "red", "blue"}))
        users = {user.name for user in self.operator.identity.users()}
        yield from (f"user {name}" for name in sorted(users - {"admin", "red", "blue", "reader"}))
