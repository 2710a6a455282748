// From an empty project to two ports that ping; changes; deletion with what is in the way.
import assert from "node:assert/strict";
import { id } from "../story.mjs";

export default async function (story) {
  const page = await story.open();
  await story.signIn(page, "tenant0");
  await story.see(page, "This project has no network yet.");

  // Three clicks from the first page: the wizard, a name, Create.
  await page.getByRole("link", { name: "New network with ports" }).click();
  await page.getByLabel("Name of the network").fill("shop");
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created network shop with a subnet and 2 ports.");
  const network = id(page);
  const ports = await page.locator("#part-ports tbody tr a[href^='/ports/']").evaluateAll((links) => links.map((link) => link.pathname.split("/")[2]));
  assert.equal(ports.length, 2);

  // The page follows what hosts do, without being asked.
  await page.goto(`${story.base}/ports`);
  await story.ask({ attach: { port: ports[0], host: 0 } });
  await story.ask({ attach: { port: ports[1], host: 1 } });
  for (const port of ports) await page.locator(`#row-${port}`).getByText("ACTIVE").waitFor();
  assert.equal(await story.ask({ ping: { from: ports[0], to: ports[1] } }), true);

  // A change.
  await page.goto(`${story.base}/ports/${ports[0]}`);
  await page.getByRole("link", { name: "Change" }).click();
  await page.getByLabel("Name", { exact: true }).fill("till");
  await page.getByLabel("Description").fill("front desk");
  await page.getByRole("button", { name: "Save" }).click();
  await story.notice(page, "Changed port till.");
  await story.see(page, "front desk");
  await story.see(page, "What may pass");

  // While a range is written the wizard says what it overlaps, in a sentence that is read out, and where.
  await page.goto(`${story.base}/wizard`);
  await page.getByLabel("CIDR of the subnet").fill("10.0.0.0/16");
  await page.locator("#range-verdict[aria-live]").getByText("overlaps 1 of this project's subnets").waitFor();
  await page.locator("#ranges").getByText("overlaps", { exact: true }).waitFor();

  // A subnet and a port by hand; the address is refused where it stands.
  await page.goto(`${story.base}/networks/${network}`);
  await page.getByRole("link", { name: "New subnet" }).click();
  await page.getByLabel("Name", { exact: true }).fill("back");
  await page.getByLabel("CIDR", { exact: false }).first().fill("10.0.0.128/25");
  await page.getByRole("button", { name: "Create" }).click();
  const wrong = page.locator("#f-cidr");
  assert.equal(await wrong.getAttribute("aria-invalid"), "true");
  await story.see(page, "overlaps with another subnet");
  await wrong.fill("10.0.1.0/24");
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created subnet back.");
  await page.goto(`${story.base}/ports/new?network_id=${network}`);
  await page.getByLabel("Name", { exact: true }).fill("third");
  await page.getByLabel("Addresses", { exact: true }).fill("10.0.1.77");
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created port third.");
  await story.see(page, "10.0.1.77");

  // What is in the way of a deletion is named; then several go at once.
  await page.goto(`${story.base}/networks/${network}`);
  await page.getByRole("link", { name: "Delete…" }).click();
  await story.see(page, "This is in the way");
  await page.getByRole("link", { name: "till" }).waitFor();
  await page.getByRole("button", { name: "Delete" }).click();
  await story.see(page, "Delete its ports first.");
  await story.menu(page, "Ports");
  for (const box of await page.locator("tbody input[type=checkbox]").all()) await box.check();
  await page.getByRole("button", { name: "Delete the chosen…" }).click();
  await page.getByRole("heading", { name: "Delete 3 ports" }).waitFor();
  await page.getByRole("button", { name: "Delete" }).click();
  await story.notice(page, "Deleted 3 ports.");
  await page.goto(`${story.base}/networks/delete?id=${network}`);
  await story.see(page, "go along");
  await page.getByRole("button", { name: "Delete" }).click();
  await story.notice(page, "Deleted network shop.");
  await story.see(page, "There are no networks yet.");
}
