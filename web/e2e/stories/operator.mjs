// An operator sees hosts, roles and every port; a host stops, and it shows; it comes back.
import assert from "node:assert/strict";
import { id } from "../story.mjs";

// A page is renewed within two seconds.
const LOOK_MS = 2000;

// The matrix counts what the API says who holds.
async function counted(story, page) {
  const table = page.getByRole("region", { name: "Roles by host" });
  const texts = (of) => of.evaluateAll((cells) => cells.map((cell) => cell.innerText));
  await story.until("the matrix counts the roles", async () => {
    await page.goto(`${story.base}/roles`);
    const kinds = (await texts(table.locator("thead th"))).slice(3);
    const { roles } = await story.ask({ get: "/v2.0/mizar/roles" });
    const count = (host, kind) => roles.filter(({ host: of, role, state }) => of === host && `${role}, ${state}` === kind).length;
    const wanted = [...story.hosts].sort().map((host) => [host, ...kinds.map((kind) => `${count(host, kind)}`)]);
    const rows = await Promise.all((await table.locator("tbody tr").all()).map((row) => texts(row.locator("th, td.number"))));
    const active = wanted.reduce((sum, row) => sum + Number(row[1 + kinds.indexOf("bouncer, active")]), 0);
    return active > 0 && JSON.stringify(rows) === JSON.stringify(wanted);
  });
}

// What a host should have and has, what is between, and how full its maps are.
async function compared(story, page, { host, id: hostId, port }) {
  await page.goto(`${story.base}/hosts/${hostId}`);
  await page.getByRole("heading", { level: 1, name: host }).waitFor();
  const row = (part, name) => page.locator(part).getByRole("row").filter({ has: page.getByRole("rowheader", { name, exact: true }) });
  await row("#applied", "Ports").getByText("1 missing").waitFor();
  const missing = page.locator("#applied").getByRole("row").filter({ hasText: "not attached on the host" });
  assert.equal(await missing.getByRole("link", { name: "own-1" }).getAttribute("href"), `/ports/${port}`);
  const cells = row("#maps", "EP").getByRole("cell");
  await cells.first().filter({ hasText: /^[1-9]/ }).waitFor();
  assert.equal(await row("#maps", "ADDR").getByRole("cell").nth(1).innerText(), "65536");
  assert.equal(await row("#maps", "CFG").count(), 0, "what is whole from the beginning never fills");
  await row("#maps", "EP").getByRole("progressbar").waitFor();
  await story.accessible(page);
  await story.keep(page, "host");
}

// A host that is silent stands first where they are sorted so, alone where the list is narrowed to such, and on the overview.
async function lookedAt(story, page, { host }) {
  await page.getByRole("link", { name: "Heard of" }).click();
  await page.locator("th[aria-sort='ascending']").waitFor();
  // Hosts that were heard of within 20 s are equal here, whatever the lease.
  const first = page.locator("tbody tr").first().getByRole("rowheader", { name: host, exact: true });
  await first.waitFor({ timeout: 20_000 + LOOK_MS + 8000 });
  await page.goto(`${story.base}/hosts?alive=false`);
  await page.getByRole("row", { name: host }).getByText("silent").waitFor();
  assert.equal(await page.locator("tbody tr").count(), 1);
  await page.goto(story.base);
  const named = page.locator("#hosts");
  await named.getByRole("listitem").filter({ hasText: /heard of \d+ s ago/ }).getByRole("link", { name: host }).waitFor();
  await story.keep(page, "overview-operator");
  await named.getByRole("link", { name: "1", exact: true }).first().click();
  await page.getByRole("row", { name: host }).getByText("silent").waitFor();
  await page.getByRole("row", { name: host }).getByRole("link", { name: host }).click();
  await page.locator("#maps").getByText("not heard of within the lease").waitFor();
}

export default async function (story) {
  const tenant = await story.open();
  await story.signIn(tenant, "tenant0", "/wizard");
  await tenant.getByLabel("Name of the network").fill("theirs");
  await tenant.getByRole("button", { name: "Create" }).click();
  await story.notice(tenant, "Created network theirs");
  const network = id(tenant);
  await tenant.getByRole("link", { name: "theirs-1" }).click();
  await tenant.getByRole("heading", { level: 1, name: "theirs-1" }).waitFor();
  const port = id(tenant);
  const mac = await tenant.locator("#facts code").filter({ hasText: /^fa:/ }).innerText();
  assert.equal(await tenant.getByRole("link", { name: "Hosts" }).count(), 0, "tenants are not shown what they may not see");

  const page = await story.open();
  await story.signIn(page, "admin");
  await story.menu(page, "Hosts");
  for (const host of story.hosts) await page.getByRole("row", { name: host }).getByText("alive").waitFor();
  const [host] = story.hosts;
  await story.ask({ attach: { port, host: 0 } });
  await page.goto(`${story.base}/search?q=${mac}`);
  await page.getByRole("heading", { level: 1, name: "theirs-1" }).waitFor();
  assert.equal(id(page), port, "any project's port is found by its MAC");
  await page.locator("#facts").getByRole("link", { name: host }).click();
  await page.getByRole("row", { name: host }).getByText("alive").waitFor();
  // The map of the project that the operator works in shows ports by their hosts.
  const make = async (kind, body) => (await story.ask({ post: { path: `/v2.0/${kind}s`, body: { [kind]: body } } }))[kind].id;
  const own = await make("network", { name: "own" });
  await make("subnet", { network_id: own, ip_version: 4, cidr: "10.77.0.0/24" });
  const ports = [
    await make("port", { network_id: own, name: "own-1", "binding:host_id": host }),
    await make("port", { network_id: own, name: "own-2" }),
  ];
  await page.goto(`${story.base}/map`);
  const map = page.locator("svg.map");
  await map.getByRole("link", { name: "no host, 1 port" }).waitFor();
  await map.getByRole("link", { name: "own-1, 10.77.0." }).waitFor();
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    // A page that is loaded so: one that changes its colours passes through others.
    await page.reload();
    await map.getByRole("link", { name: "no host, 1 port" }).waitFor();
    await story.accessible(page);
  }
  await compared(story, page, { host, id: await story.ask({ host }), port: ports[0] });
  await page.goto(`${story.base}/map`);
  await map.getByRole("link", { name: `${host}, 1 port` }).click();
  await page.getByRole("row", { name: host }).getByText("alive").waitFor();
  for (const port of ports) await story.ask({ delete: `/v2.0/ports/${port}` });
  await story.ask({ delete: `/v2.0/networks/${own}` });
  await page.goto(`${story.base}/networks/${network}`);
  await page.locator("#holders").getByText("bouncer").first().waitFor();
  await page.locator("#holders").getByText("divider").first().waitFor();
  const holder = page.locator("#holders").getByRole("link", { name: /^host\d/ }).first();
  const held = await holder.innerText();
  await holder.click();
  await page.getByRole("row", { name: held }).getByText("alive").waitFor();
  await page.goto(`${story.base}/roles`);
  await page.getByRole("rowheader", { name: host }).waitFor();
  await page.getByText("normal").waitFor();
  await counted(story, page);
  await story.menu(page, "Audit log");
  await page.goto(`${story.base}/audit?all=1`);
  await page.getByText("create port").first().waitFor();

  await page.goto(`${story.base}/hosts`);
  const since = Date.now();
  await story.ask({ stop_agent: host });
  const silent = page.getByRole("row", { name: host }).getByText("silent").waitFor();
  await story.within(story.leaseMs + LOOK_MS, "a host that stopped is shown as silent", since, silent);
  await lookedAt(story, page, { host });
  await page.locator("#part-ports").getByText("theirs-1").waitFor();
  await story.ask({ start_agent: host });
  await page.locator("#facts").getByText("alive").waitFor();
  await page.locator("#maps").getByRole("rowheader", { name: "EP", exact: true }).waitFor();
  await page.getByRole("link", { name: "Change" }).click();
  await page.getByLabel("Weight").fill("50");
  await page.getByRole("button", { name: "Save" }).click();
  await story.notice(page, `Changed host ${host}.`);
  await page.getByRole("link", { name: "Change" }).click();
  await page.getByLabel("Weight").fill("100");
  await page.getByRole("button", { name: "Save" }).click();
  await story.notice(page, `Changed host ${host}.`);
}
