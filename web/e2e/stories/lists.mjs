// Lists are narrowed, sorted and paged by their addresses; search finds by name, address, MAC and id.
import assert from "node:assert/strict";

const titles = (page) => page.locator("tbody tr th").allInnerTexts();

export default async function (story) {
  const page = await story.open();
  await story.signIn(page, "tenant0", "/wizard");
  await page.getByLabel("Name of the network").fill("big");
  await page.getByLabel("Number of ports").fill("50");
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "50 ports");

  await page.goto(`${story.base}/ports?size=25`);
  await page.getByRole("link", { name: "Name" }).click();
  await page.waitForURL(`${story.base}/ports?sort=name&size=25`);
  const first = await titles(page);
  assert.equal(first.length, 25);
  assert.equal(first[0], "big-1");
  await page.getByRole("link", { name: "Next" }).click();
  await page.getByRole("link", { name: "Previous" }).waitFor();
  const second = await titles(page);
  assert.deepEqual([second.length, new Set([...first, ...second]).size], [25, 50]);
  await page.getByRole("link", { name: "Previous" }).click();
  await page.waitForURL(/back=1/);
  assert.deepEqual(await titles(page), first);
  await page.getByRole("link", { name: "Name" }).click();
  await page.waitForURL(/dir=desc/);
  assert.equal((await titles(page))[0], "big-9");
  await page.getByText("Filter", { exact: true }).first().click();
  await page.locator(".filters").getByLabel("Name").fill("big-7");
  await page.locator(".filters").getByRole("button").click();
  await page.waitForURL(/name=big-7/);
  assert.deepEqual(await titles(page), ["big-7"]);
  assert.equal((await page.goto(`${story.base}/ports?colour=red`)).status(), 400);

  // `/` goes to the search, from anywhere; one hit is gone to at once.
  await page.goto(`${story.base}/ports?name=big-7`);
  const mac = await page.locator("tbody code").first().innerText();
  const address = await page.locator("tbody tr td:nth-child(4)").innerText();
  const seek = async (text) => {
    await page.goto(`${story.base}/networks`);
    await story.ready(page);
    await page.keyboard.press("/");
    await page.keyboard.type(text);
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { level: 1, name: "big-7" }).waitFor();
    return new URL(page.url()).pathname.split("/")[2];
  };
  const port = await seek("big-7");
  for (const text of [mac.toUpperCase(), address, port]) assert.equal(await seek(text), port);
  await page.goto(`${story.base}/search?q=10.0.`);
  await page.getByRole("cell", { name: "port", exact: true }).first().waitFor();
  // What does not stand there is said to be, and is listed by a link.
  assert.equal(await page.locator("main tbody tr").count(), 25);
  await page.getByRole("link", { name: "all ports that are so" }).click();
  await page.getByRole("heading", { level: 1, name: "Ports" }).waitFor();
  assert.equal((await titles(page)).length, 50);

  // With the keyboard alone: skip the menu, mark, delete.
  await page.goto(`${story.base}/ports?name=big-7`);
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.locator(`#choose-${port}`).focus();
  await page.keyboard.press("Space");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Delete port big-7" }).waitFor();
}
