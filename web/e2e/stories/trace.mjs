// Why a packet does not arrive: the trace names who blocks it, and what was dropped is counted.
import assert from "node:assert/strict";

export default async function (story) {
  const page = await story.open();
  await story.signIn(page, "tenant0", "/security-groups/new");
  await page.getByLabel("Name", { exact: true }).fill("closed");
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created security group closed.");
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
}
