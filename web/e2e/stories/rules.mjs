// Security groups, and what they let through together; a quota that is used up.
import assert from "node:assert/strict";
import { id } from "../story.mjs";

// Answers to what may pass a port whose groups are all stateless need rules too, and its pages say so.
async function stateless(story, page, port) {
  await page.goto(`${story.base}/security-groups/new`);
  await page.getByLabel("Name", { exact: true }).fill("one way");
  await page.getByLabel("Stateful").uncheck();
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created security group one way.");
  await page.locator("#facts").getByText("need rules of their own").waitFor();
  const group = id(page);
  const groups = async (wanted) => {
    await page.goto(`${story.base}/ports/${port}/edit`);
    for (const box of await page.getByRole("group", { name: "Security groups" }).getByRole("checkbox").all()) await box.uncheck();
    for (const name of wanted) await page.getByLabel(name, { exact: true }).check();
    await page.getByRole("button", { name: "Save" }).click();
    await story.notice(page, "Changed port shop-1.");
  };
  const told = page.locator("#effective");
  await groups(["one way"]);
  await told.getByText("Its security groups are stateless").waitFor();
  assert.equal(await told.getByText("may pass too").count(), 0);
  await page.goto(`${story.base}/ports/${port}/reach`);
  await story.see(page, "The security groups of shop-1 are stateless");
  await story.accessible(page);
  // While a port has it the form is refused where it was changed, with what to do.
  await page.goto(`${story.base}/security-groups/${group}/edit`);
  await page.getByLabel("Stateful").check();
  await page.getByRole("button", { name: "Save" }).click();
  await page.locator("#stateful-error").waitFor();
  await story.see(page, "Take it off the ports that have it first.");
  await groups(["default", "web"]);
  await told.getByText("Answers to what may pass may pass too.").waitFor();
  assert.equal(await told.getByText("stateless").count(), 0);
  await page.goto(`${story.base}/security-groups/${group}/edit`);
  await page.getByLabel("Stateful").check();
  await page.getByRole("button", { name: "Save" }).click();
  await story.notice(page, "Changed security group one way.");
  await page.locator("#facts").getByText("pass too: it is stateful").waitFor();
}

export default async function (story) {
  const page = await story.open();
  await story.signIn(page, "tenant0");
  await page.goto(`${story.base}/security-groups/new`);
  await page.getByLabel("Name", { exact: true }).fill("web");
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created security group web.");
  const group = id(page);
  await page.getByRole("link", { name: "New rule" }).click();
  await page.getByLabel("Direction").selectOption("ingress");
  await page.getByLabel("Protocol").fill("tcp");
  await page.getByLabel("First port").fill("443");
  await page.getByLabel("Last port").fill("80");
  await page.getByRole("button", { name: "Create" }).click();
  await page.locator("#port_range_min-error").waitFor();
  await page.getByLabel("Last port").fill("443");
  await page.getByLabel("Other side: range").fill("203.0.113.0/24");
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created rule TCP 443 in, from 203.0.113.0/24.");
  await page.getByRole("heading", { level: 1, name: "web" }).waitFor();

  // A rule says which group it names, wherever it is told of.
  await page.getByRole("link", { name: "New rule" }).click();
  await page.getByLabel("Direction").selectOption("ingress");
  await page.getByLabel("Protocol").fill("udp");
  await page.getByLabel("Other side: group").selectOption({ label: "web" });
  await page.getByRole("button", { name: "Create" }).click();
  const named = "UDP in, from group web";
  await story.notice(page, `Created rule ${named}.`);
  await page.locator("#part-security-group-rules").getByRole("link", { name: named }).click();
  await page.getByRole("heading", { level: 1, name: named }).waitFor();
  await page.goto(`${story.base}/security-group-rules`);
  await page.getByRole("link", { name: named }).waitFor();
  await page.goto(`${story.base}/audit`);
  await page.getByRole("link", { name: named }).click();
  await page.getByRole("link", { name: "Delete…" }).click();
  await page.getByRole("heading", { level: 1, name: `Delete rule ${named}` }).waitFor();
  await page.getByRole("button", { name: "Delete" }).click();
  await story.notice(page, `Deleted rule ${named}.`);

  // Whoever comes to a page that is not there goes on from it by the menu.
  await page.goto(`${story.base}/networks/${group}`);
  await page.getByRole("heading", { level: 1, name: "Not found" }).waitFor();
  await story.menu(page, "Networks");

  await page.goto(`${story.base}/wizard`);
  await page.getByLabel("Name of the network").fill("shop");
  await page.getByLabel("Number of ports").fill("1");
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created network shop");
  await page.getByRole("link", { name: "shop-1" }).click();
  await page.getByRole("link", { name: "Change" }).click();
  await page.getByLabel("web", { exact: true }).check();
  await page.getByRole("button", { name: "Save" }).click();
  const effective = page.locator("#effective");
  await effective.getByText("TCP 443").waitFor();
  await effective.getByText("203.0.113.0/24").waitFor();
  await effective.getByRole("link", { name: "default" }).first().waitFor();

  // Who can reach it, by the rules of both sides: asked when the page is.
  const port = id(page);
  await page.getByRole("link", { name: "Who can reach it" }).click();
  await page.getByRole("heading", { level: 1, name: "Who can reach shop-1" }).waitFor();
  const addresses = page.getByRole("region", { name: "Addresses" });
  await addresses.getByRole("row", { name: "203.0.113.0/24" }).getByText("TCP 443").waitFor();
  await page.getByLabel("Protocol").fill("tcp");
  await page.getByLabel("To port").fill("22");
  await page.getByRole("button", { name: "Show" }).click();
  await page.waitForURL(/destination_port=22/);
  await page.getByText("None, whoever is there.").waitFor();
  await page.getByLabel("To port").fill("many");
  await page.getByRole("button", { name: "Show" }).click();
  await page.getByRole("alert").getByText("destination_port").waitFor();

  await stateless(story, page, port);

  // Where a label policy isolates the port it decides alone: what groups let through is not said there.
  await page.goto(`${story.base}/ports/${port}`);
  const labels = { namespace: "shop", namespace_labels: {}, labels: { app: "web" } };
  await story.ask({ put: { path: `/v2.0/ports/${port}`, body: { port: { "mizar:labels": labels } } } });
  const manifest = {
    apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", metadata: { name: "front-only", namespace: "shop" },
    spec: {
      podSelector: {}, policyTypes: ["Ingress"],
      ingress: [{ from: [{ podSelector: { matchLabels: { app: "front" } } }], ports: [{ port: 8080 }] }],
    },
  };
  const owner = await story.ask({ project: "tenant0" });
  const policy = await story.ask({ post: { path: "/v2.0/label-policies", body: { label_policy: { manifest, project_id: owner } } } });
  await effective.getByText("Label policies decide").waitFor();
  await effective.getByText("ports labelled app=front of this namespace").waitFor();
  assert.equal(await effective.getByText("203.0.113.0/24").count(), 0);
  await effective.getByRole("link", { name: "default" }).first().waitFor();
  await story.ask({ delete: `/v2.0/label-policies/${policy.label_policy.id}` });
  await effective.getByText("203.0.113.0/24").waitFor();

  // What the end of a rule would cut is said before.
  await page.goto(`${story.base}/security-groups/${group}`);
  await page.getByRole("link", { name: "TCP 443 in, from 203.0.113.0/24" }).click();
  await page.getByRole("link", { name: "Delete…" }).click();
  await story.see(page, "these ports lose it");
  // A host that is late is asked again.
  const deletion = page.url();
  await story.until("hosts say that nothing is cut", async () => {
    await page.goto(deletion);
    return (await page.getByText("none would be cut").count()) > 0;
  });
  await story.accessible(page);
  await page.getByRole("link", { name: "shop-1" }).waitFor();

  // The group is in use: the page says by whom, and the API's refusal what to do.
  await page.goto(`${story.base}/security-groups/delete?id=${group}`);
  await story.see(page, "This is in the way");
  await page.getByRole("link", { name: "shop-1" }).waitFor();

  // A router joins the subnet, and leaves it.
  await page.goto(`${story.base}/routers/new`);
  await page.getByLabel("Name", { exact: true }).fill("edge");
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created router edge.");
  await page.getByRole("button", { name: "Join" }).click();
  await story.notice(page, "Joined the subnet to the router.");
  await page.getByRole("button", { name: "Remove shop-subnet" }).click();
  await story.notice(page, "Took the subnet off the router.");
  // It leads outside by an external network, which an administrator has made.
  const made = await story.ask({ post: { path: "/v2.0/networks", body: { network: { name: "internet", "router:external": true } } } });
  const outside = made.network.id;
  const range = { network_id: outside, ip_version: 4, cidr: "198.51.100.0/24" };
  await story.ask({ post: { path: "/v2.0/subnets", body: { subnet: range } } });
  const router = id(page);
  await page.getByRole("link", { name: "Change" }).click();
  await page.getByLabel("External gateway").selectOption({ label: "internet" });
  await page.getByRole("button", { name: "Save" }).click();
  await story.notice(page, "Changed router edge.");
  await page.locator("#facts").getByRole("link", { name: "internet" }).waitFor();
  await page.locator("#facts").getByText("198.51.100.").waitFor();
  await page.getByRole("link", { name: "Change" }).click();
  await page.getByLabel("External gateway").selectOption({ label: "None" });
  await page.getByRole("button", { name: "Save" }).click();
  await story.notice(page, "Changed router edge.");
  await page.goto(`${story.base}/routers/delete?id=${router}`);
  await page.getByRole("button", { name: "Delete" }).click();
  await story.notice(page, "Deleted router edge.");
  await story.ask({ delete: `/v2.0/networks/${outside}` });

  // Pools give ranges.
  await page.goto(`${story.base}/subnet-pools/new`);
  await page.locator("#f-name").fill("pool");
  await page.locator("#f-prefixes").fill("10.64.0.0/16");
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created subnet pool pool.");
  await page.goto(`${story.base}/subnet-pools/delete?id=${id(page)}`);
  await page.getByRole("button", { name: "Delete" }).click();
  await story.notice(page, "Deleted subnet pool pool.");

  // The quota is used up: the refusal says so and what to do.
  const project = await story.ask({ project: "tenant0" });
  await story.ask({ put: { path: `/v2.0/quotas/${project}`, body: { quota: { network: 1 } } } });
  await page.goto(`${story.base}/networks/new`);
  await page.getByLabel("Name", { exact: true }).fill("one too many");
  await page.getByRole("button", { name: "Create" }).click();
  await story.see(page, "Quota exceeded");
  await story.see(page, "ask an administrator for a larger quota");
  await page.goto(story.base);
  await page.getByText("1 of 1 full").waitFor();

  await page.goto(`${story.base}/ports`);
  await page.getByLabel("Choose shop-1").check();
  await page.getByRole("button", { name: "Delete the chosen…" }).click();
  await page.getByRole("button", { name: "Delete" }).click();
  await story.notice(page, "Deleted port shop-1.");
  await page.goto(`${story.base}/security-groups/delete?id=${group}`);
  await page.getByRole("button", { name: "Delete" }).click();
  await story.notice(page, "Deleted security group web.");
}
