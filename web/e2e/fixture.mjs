// One object of every kind, of a name that the story chooses: so that no page is looked at empty, and none left out.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

// Every kind, written from the dashboard's own table (`web/tests/stories.rs`).
export const KINDS = JSON.parse(readFileSync(new URL("kinds.json", import.meta.url), "utf8"));

// Made by an administrator for a project: ids by the paths of the kinds, and whatever takes them away that is not
// taken away with the project.
export async function oneOfEach(story, project, name) {
  const put = (path, body) => story.ask({ put: { path: `/v2.0/${path}`, body } });
  const made = async (kind, path, body) => (await story.ask({ post: { path: `/v2.0/${path}`, body: { [kind]: body } } }))[kind];
  const make = async (kind, path, body) => (await made(kind, path, { project_id: project, description: name, ...body })).id;
  const outside = (await made("network", "networks", { name: "outside", "router:external": true })).id;
  await made("subnet", "subnets", { network_id: outside, ip_version: 4, cidr: "198.51.100.0/24", enable_dhcp: false });

  const network = await make("network", "networks", { name });
  const subnet = await make("subnet", "subnets", { name, network_id: network, ip_version: 4, cidr: "10.8.0.0/24" });
  const group = await make("security_group", "security-groups", { name });
  const rule = await make("security_group_rule", "security-group-rules", {
    security_group_id: group, direction: "ingress", protocol: "tcp", port_range_min: 443, port_range_max: 443, remote_group_id: group,
  });
  const placed = { name, network_id: network, security_groups: [group] };
  const port = await make("port", "ports", { ...placed, fixed_ips: [{ ip_address: "10.8.0.10" }] });
  const peer = await make("port", "ports", { ...placed, fixed_ips: [{ ip_address: "10.8.0.11" }] });
  await story.ask({ attach: { port, host: 0 } });
  await story.ask({ attach: { port: peer, host: 1 } });
  const router = await make("router", "routers", { name, external_gateway_info: { network_id: outside } });
  await put(`routers/${router}/add_router_interface`, { subnet_id: subnet });
  const floating = await make("floatingip", "floatingips", { floating_network_id: outside, port_id: port });
  const pool = await make("subnetpool", "subnetpools", { name, prefixes: ["10.64.0.0/16"] });
  const { audit_events: [event] } = await story.ask({ get: `/v2.0/mizar/audit?object_id=${network}` });

  const ids = {
    networks: network, subnets: subnet, ports: port, "security-groups": group, "security-group-rules": rule, routers: router,
    "floating-ips": floating, "subnet-pools": pool, audit: event.id, hosts: await story.ask({ host: story.hosts[0] }),
  };
  assert.deepEqual(KINDS.map(({ path }) => path).filter((path) => !ids[path]), [], "a kind has no object here");
  const remove = async () => {
    await story.ask({ delete: `/v2.0/floatingips/${floating}` });
    await put(`routers/${router}/remove_router_interface`, { subnet_id: subnet });
    for (const one of [`routers/${router}`, `subnetpools/${pool}`, `networks/${outside}`]) await story.ask({ delete: `/v2.0/${one}` });
  };
  return { ids, peerAddress: "10.8.0.11", remove };
}

// Every page that there is of these objects: lists, one of each, what else is known of it, and forms.
export function pagesOf({ ids, peerAddress }, kinds = KINDS) {
  const of = ({ path, create, edit, remove, doors }) => [
    `/${path}`, `/${path}/${ids[path]}`,
    ...doors.map((door) => `/${path}/${ids[path]}/${door}`),
    ...(create ? [`/${path}/new`] : []),
    ...(edit ? [`/${path}/${ids[path]}/edit`] : []),
    ...(remove ? [`/${path}/delete?id=${ids[path]}`] : []),
  ];
  const answered = [`/ports/${ids.ports}/trace?destination=${peerAddress}&protocol=tcp&destination_port=443`, `/ports/${ids.ports}/reach?direction=egress`];
  return [...kinds.flatMap(of), ...(kinds.some(({ path }) => path === "ports") ? answered : [])];
}
