// What a port spoke with and what was refused stands in its flow log: with the rule that let it pass, narrowed by what
// the address says, and with who is silent named.
import assert from "node:assert/strict";
import { id } from "../story.mjs";

// Two ports on two hosts, of which the second lets nothing in.
async function made(story, page) {
  await page.goto(`${story.base}/security-groups/new`);
  await page.getByLabel("Name", { exact: true }).fill("closed");
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created security group closed.");
  const group = id(page);
  await page.goto(`${story.base}/wizard`);
  await page.getByLabel("Name of the network").fill("shop");
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created network shop");
  const links = page.locator("#part-ports tbody tr a[href^='/ports/']");
  const [from, to] = await links.evaluateAll((links) => links.map((link) => link.pathname.split("/")[2]));
  await page.goto(`${story.base}/ports/${to}/edit`);
  await page.getByLabel("default", { exact: true }).uncheck();
  await page.getByLabel("closed", { exact: true }).check();
  await page.getByRole("button", { name: "Save" }).click();
  await story.notice(page, "Changed port");
  await story.ask({ attach: { port: from, host: 0 } });
  await story.ask({ attach: { port: to, host: 1 } });
  await page.locator("#facts").getByText("ACTIVE").waitFor();
  return { group, from, to };
}

async function opened(story, page, group) {
  await page.goto(`${story.base}/security-group-rules/new?security_group_id=${group}`);
  await page.getByLabel("Direction").selectOption("ingress");
  await page.getByLabel("Protocol").fill("tcp");
  await page.getByLabel("First port").fill("443");
  await page.getByLabel("Last port").fill("443");
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created rule TCP 443 in, from anywhere.");
}

export default async function (story) {
  const page = await story.open();
  await story.signIn(page, "tenant0");
  const { group, from, to } = await made(story, page);
  const rows = page.locator("main tbody tr");
  const row = (...texts) => texts.reduce((found, hasText) => found.filter({ hasText }), rows);
  const filter = page.getByRole("button", { name: "Filter" });

  // A refused flow, on the page that the port's own page leads to.
  await page.goto(`${story.base}/ports/${to}`);
  await page.getByRole("link", { name: "Flow log" }).click();
  await page.getByRole("heading", { level: 1, name: "Flow log" }).waitFor();
  assert.equal(new URL(page.url()).pathname, `/ports/${to}/flow-log`);
  const pinged = row("ICMP type 8", "refused", "the other side");
  await story.until("a refused flow is logged", async () => {
    assert.equal(await story.ask({ knock: { from, to } }), false);
    await page.reload();
    return (await pinged.count()) > 0;
  });
  await pinged.first().getByText("no rule for what the port may get").waitFor();

  // One that is let through: its sender's host knows by which rule.
  await opened(story, page, group);
  await story.until("a connection passes", () => story.ask({ connect: { from, to, port: 443 } }));
  const spoken = row(":443, TCP", "let through");
  for (const port of [to, from]) {
    await story.until("an allowed flow is logged", async () => {
      await page.goto(`${story.base}/ports/${port}/flow-log`);
      return (await spoken.count()) > 0;
    });
  }
  await spoken.first().getByText("the port", { exact: true }).waitFor();
  assert.match(await spoken.first().innerText(), /[1-9]\d* packets?, [1-9]\d* B/);
  const last = await rows.locator("td:nth-child(8) time").evaluateAll((times) => times.map(({ dateTime }) => dateTime));
  assert.deepEqual(last, [...last].sort().reverse(), "the youngest come first");
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await page.reload();
    await spoken.first().waitFor();
    await story.accessible(page);
    await story.keep(page, `flow-log-${colorScheme}`);
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 360, height: 740 });
  await page.reload();
  await spoken.first().waitFor();
  await story.accessible(page);
  await page.setViewportSize({ width: 1280, height: 900 });
  await spoken.first().getByRole("link").first().click();
  await page.waitForURL(/\/security-group-rules\/[0-9a-f-]{36}$/);
  await page.getByRole("heading", { level: 1, name: /out, to anywhere/ }).waitFor();

  // Narrowed by the form, and so by the address, which can be passed on.
  await page.goto(`${story.base}/ports/${to}/flow-log`);
  await page.getByLabel("Verdict").selectOption("refused");
  await filter.click();
  await page.waitForURL(/verdict=deny/);
  await pinged.first().waitFor();
  assert.equal(await row("let through").count(), 0);
  await page.getByLabel("Verdict").selectOption("let through");
  await page.getByLabel("Protocol").fill("tcp");
  await page.getByLabel("Port number").fill("443");
  await page.getByLabel("Opened by").selectOption("the other side");
  await filter.click();
  await page.waitForURL(/verdict=accept/);
  await spoken.first().waitFor();
  assert.equal(await row("ICMP").count(), 0);
  const another = await story.open({ storageState: await page.context().storageState() });
  await another.goto(page.url());
  assert.equal(await another.getByLabel("Port number").inputValue(), "443");
  await another.context().close();
  await page.getByLabel("Other side: address").fill("203.0.113.0/24");
  await filter.click();
  await story.see(page, "The log has no such flows.");
  await page.getByLabel("Port number").fill("many");
  await filter.click();
  await page.getByRole("alert").getByText("port_number").waitFor();
  await page.getByRole("link", { name: "Clear" }).click();
  await pinged.first().waitFor();

  // What is dropped is counted on a page of its own, which leads here.
  await page.goto(`${story.base}/ports/${to}/drops`);
  await page.locator("main").getByRole("link", { name: "flow log" }).click();
  await page.waitForURL(/flow-log\?verdict=deny/);

  // Whoever is silent is not taken for somebody who has no flows.
  await story.ask({ stop_agent: story.hosts[1] });
  await story.until("the silent host is named", async () => {
    await page.goto(`${story.base}/ports/${to}/flow-log`);
    return (await page.getByRole("alert").getByText("the port's host").count()) > 0;
  });
  await story.accessible(page);
  await story.keep(page, "flow-log-silent");
  await story.ask({ start_agent: story.hosts[1] });
}
