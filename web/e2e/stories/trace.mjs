// Why a packet does not arrive: the trace names who blocks it, and the rule that lets it once there is one.
import assert from "node:assert/strict";
import { id } from "../story.mjs";

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
  await story.until("the drops are counted", async () => {
    await page.goto(`${story.base}/ports/${to}/drops`);
    return (await page.locator("tbody tr").count()) > 0;
  });
  await story.accessible(page);

  await page.goto(`${story.base}/security-group-rules/new?security_group_id=${group}`);
  await page.getByLabel("Direction").selectOption("ingress");
  await page.getByLabel("Protocol").fill("tcp");
  await page.getByLabel("First port").fill("443");
  await page.getByLabel("Last port").fill("443");
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created rule TCP 443 in, from anywhere.");
  await follow("It is delivered");
  await page.locator(".hops").getByRole("link", { name: "TCP 443 in, from anywhere" }).first().waitFor();

  // What cannot be followed is said at the field.
  await page.goto(`${story.base}/ports/${from}/trace?destination=nowhere&protocol=tcp&destination_port=443`);
  await page.locator("#destination-error").waitFor();
  assert.equal((await page.goto(`${story.base}/ports/${from}/trace?colour=red`)).status(), 400);

  const operator = await story.open();
  await story.signIn(operator, "admin", "/hosts");
  await operator.getByRole("link", { name: story.hosts[0] }).click();
  await operator.getByRole("link", { name: "What is dropped" }).click();
  await operator.getByRole("heading", { level: 1, name: "What is dropped" }).waitFor();

  await page.goto(`${story.base}/ports`);
  for (const box of await page.locator("tbody input[type=checkbox]").all()) await box.check();
  await page.getByRole("button", { name: "Delete the chosen…" }).click();
  await page.getByRole("button", { name: "Delete" }).click();
  await story.notice(page, "Deleted 2 ports.");
  await page.goto(`${story.base}/security-groups/delete?id=${group}`);
  await page.getByRole("button", { name: "Delete" }).click();
  await story.notice(page, "Deleted security group closed.");
}
