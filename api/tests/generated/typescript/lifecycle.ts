// A network, a subnet and a port, from create to delete, with the generated types.

import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { paths } from "./schema.d.ts";

const server = createClient<paths>({
  baseUrl: process.env["MIZAR_URL"] ?? "",
  headers: { "X-Auth-Token": process.env["MIZAR_TOKEN"] ?? "" },
});

/** The answer, or the server's reason for another. */
function good<T>({ data, error, response }: { data?: T; error?: unknown; response: Response }): T {
  assert.ok(data !== undefined, `${response.url}: ${response.status} ${JSON.stringify(error)}`);
  return data;
}

const network = good(await server.POST("/v2.0/networks", { body: { network: { name: "generated" } } }));
assert.ok("network" in network && network.network.id);
const network_id = network.network.id;

const subnet = good(
  await server.POST("/v2.0/subnets", { body: { subnet: { network_id, cidr: "10.0.0.0/24", ip_version: 4 } } }),
);
assert.ok("subnet" in subnet && subnet.subnet.id);

const port = good(await server.POST("/v2.0/ports", { body: { port: { network_id } } }));
assert.ok("port" in port && port.port.id);
const id = port.port.id;

const listed = good(await server.GET("/v2.0/ports", { params: { query: { network_id: [network_id] } } }));
assert.deepEqual(listed.ports.map((each) => each.id), [id]);

const shown = good(await server.GET("/v2.0/ports/{id}", { params: { path: { id } } }));
assert.equal(shown.port.network_id, network_id);
assert.equal(shown.port.fixed_ips?.length, 1);

const updated = good(
  await server.PUT("/v2.0/ports/{id}", { params: { path: { id } }, body: { port: { name: "renamed" } } }),
);
assert.equal(updated.port.name, "renamed");

const deleted = await server.DELETE("/v2.0/ports/{id}", { params: { path: { id } } });
assert.equal(deleted.response.status, 204);
const missing = await server.GET("/v2.0/ports/{id}", { params: { path: { id } } });
assert.equal(missing.response.status, 404);
assert.ok(missing.error && "NeutronError" in missing.error);
assert.equal(missing.error.NeutronError.type, "PortNotFound");

const gone = [
  await server.DELETE("/v2.0/subnets/{id}", { params: { path: { id: subnet.subnet.id } } }),
  await server.DELETE("/v2.0/networks/{id}", { params: { path: { id: network_id } } }),
];
assert.deepEqual(gone.map(({ response }) => response.status), [204, 204]);
console.log("done");
