// Why a packet does not arrive: the trace names who blocks it, and what was dropped is counted and drawn; which flows
// there are, and which of them the end of a rule would cut.
import assert from "node:assert/strict";
import { id } from "../story.mjs";

// Before a rule goes, the page says which flows go with it, and who did not say.
async function previewed(story, page, { group, from, to }) {
  await page.goto(`${story.base}/security-group-rules/new?security_group_id=${group}`);
  await page.getByLabel("Direction").selectOption("ingress");
  await page.getByLabel("Protocol").fill("icmp");
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created rule ICMP in, from anywhere.");
  await page.getByRole("link", { name: "ICMP in, from anywhere" }).click();
  await page.getByRole("heading", { level: 1, name: "ICMP in, from anywhere" }).waitFor();
  const deletion = `${story.base}/security-group-rules/delete?id=${id(page)}`;
  const flow = page.getByRole("rowheader", { name: "ICMP type 8" }).first();
  await story.until("a flow would be cut", async () => {
    await story.ask({ knock: { from, to } });
    await page.goto(deletion);
    return (await flow.count()) > 0;
  });
  await story.see(page, /[1-9]\d* would be cut/);
  await story.accessible(page);
  await story.keep(page, "delete-rule");
  await story.until("the port's flows are told", async () => {
    await story.ask({ knock: { from, to } });
    await page.goto(`${story.base}/ports/${to}/flows`);
    return (await flow.count()) > 0;
  });
  await story.see(page, "the other side");
  await story.accessible(page);
  // Whoever is silent is not taken for somebody who has no flows.
  await story.ask({ stop_agent: story.hosts[1] });
  await page.goto(deletion);
  await story.see(page, /a host of the ports, asked about 1 port/);
  await story.keep(page, "delete-rule-unknown");
  await story.ask({ start_agent: story.hosts[1] });
  await story.until("the host answers again", async () => {
    await page.goto(`${story.base}/ports/${to}/flows`);
    return (await page.getByRole("alert").count()) === 0;
  });
}

// The chart begins with the page, and its table says what it draws.
async function drawn(story, page, { from, to }, name) {
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await page.reload();
    const chart = page.locator(".chart");
    await chart.getByRole("heading", { name: "Packets a second" }).waitFor();
    await page.locator("#age").filter({ hasText: "As of" }).waitFor();
    const row = chart.locator("tbody tr").first();
    await story.until("the chart says what is dropped", async () => {
      await story.ask({ knock: { from, to } });
      return (await row.count()) > 0;
    });
    assert.ok(Number(await row.getByRole("cell").last().innerText()) > 0);
    const painted = await chart.locator("canvas").evaluate((canvas) => {
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return data.some((one) => one !== 0);
    });
    assert.ok(painted);
    await story.accessible(page);
    await story.keep(page, `${name}-${colorScheme}`);
  }
  await page.emulateMedia({ colorScheme: "light" });
}

// What one rule opens is delivered: by the trace, which names the rule, and in truth.
async function opened(story, page, { group, from, to, follow }) {
  const passes = () => story.ask({ connect: { from, to, port: 443 } });
  assert.equal(await passes(), false);
  await page.goto(`${story.base}/security-group-rules/new?security_group_id=${group}`);
  await page.getByLabel("Direction").selectOption("ingress");
  await page.getByLabel("Protocol").fill("tcp");
  await page.getByLabel("First port").fill("443");
  await page.getByLabel("Last port").fill("443");
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created rule TCP 443 in, from anywhere.");
  await follow("It is delivered");
  const rule = page.locator(".hops").getByRole("link", { name: "TCP 443 in, from anywhere" }).first();
  await rule.waitFor();
  assert.equal(await page.locator(".hops .ends").count(), 0);
  await story.accessible(page);
  // What is named leads there: the port that gets it, and the rule that lets it in.
  await page.locator("main p").getByRole("link", { name: "shop-2" }).click();
  await page.getByRole("heading", { level: 1, name: "shop-2" }).waitFor();
  await page.goBack();
  await rule.click();
  await page.waitForURL(/\/security-group-rules\/[0-9a-f-]{36}$/);
  await page.getByRole("heading", { level: 1, name: "TCP 443 in, from anywhere" }).waitFor();
  await story.until("a connection passes", passes);
}

// An operator sees the same of a host: of every port there.
async function ofHost(story, { from, to }) {
  const page = await story.open();
  await story.signIn(page, "admin");
  const host = await story.ask({ host: story.hosts[0] });
  await page.goto(`${story.base}/hosts/${host}`);
  await page.getByRole("link", { name: "What is dropped" }).click();
  await page.getByRole("heading", { level: 1, name: "What is dropped" }).waitFor();
  await story.until("the drops are counted", async () => {
    await page.goto(`${story.base}/hosts/${host}/drops`);
    return (await page.locator("#drops tbody").getByRole("link").filter({ hasText: "shop-" }).count()) > 0;
  });
  await drawn(story, page, { from, to }, "chart-host");
  await page.context().close();
}

export default async function (story) {
  const page = await story.open();
  await story.signIn(page, "tenant0", "/security-groups/new");
  await page.getByLabel("Name", { exact: true }).fill("closed");
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created security group closed.");
  const group = id(page);
  await page.goto(`${story.base}/wizard`);
  await page.getByLabel("Name of the network").fill("shop");
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created network shop");
  const ports = await page.locator("#part-ports tbody tr a[href^='/ports/']").evaluateAll((links) => links.map((link) => link.pathname.split("/")[2]));
  const [from, to] = ports;
  await page.goto(`${story.base}/ports/${to}/edit`);
  await page.getByLabel("default", { exact: true }).uncheck();
  await page.getByLabel("closed", { exact: true }).check();
  await page.getByRole("button", { name: "Save" }).click();
  await story.notice(page, "Changed port");
  await page.locator("#effective").getByText("Nothing.").waitFor();
  const address = await page.locator("#facts dd").filter({ hasText: /^10\./ }).innerText();
  await story.ask({ attach: { port: from, host: 0 } });
  await story.ask({ attach: { port: to, host: 1 } });
  await page.locator("#facts").getByText("ACTIVE").waitFor();

  const follow = async (verdict) => {
    await story.until(`the trace says: ${verdict}`, async () => {
      await page.goto(`${story.base}/ports/${from}/trace?destination=${address}&protocol=tcp&destination_port=443`);
      await page.getByRole("heading", { level: 2 }).waitFor();
      return (await page.getByRole("heading", { level: 2, name: verdict }).count()) === 1;
    });
  };
  await follow("It is dropped");
  await page.locator(".hops .ends").getByText("blocks it").waitFor();
  await story.accessible(page);
  assert.equal(await story.ask({ knock: { from, to } }), false);
  await opened(story, page, { group, from, to, follow });
  // A host that is late is asked again.
  const counted = (page) => story.until("the drops are counted", async () => {
    await page.goto(`${story.base}/ports/${to}/drops`);
    return (await page.locator("#drops tbody tr").count()) > 0;
  });
  await counted(page);
  await drawn(story, page, { from, to }, "chart");
  await ofHost(story, { from, to });
  // Without JavaScript there is the table alone.
  const plain = await story.open({ javaScriptEnabled: false, storageState: await page.context().storageState() });
  await counted(plain);
  assert.equal(await plain.locator(".chart").isVisible(), false);
  // So there is on a page that stays as it is.
  await page.getByRole("button", { name: "Pause" }).click();
  await story.see(page, "This page stays as it was when you opened it.");
  await counted(page);
  assert.equal(await page.locator(".chart").count(), 0);
  await page.getByRole("button", { name: "Follow changes" }).click();
  await page.locator(".chart").waitFor();
  await previewed(story, page, { group, from, to });
}
