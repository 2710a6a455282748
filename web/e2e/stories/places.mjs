// With the keyboard to any place; and what somebody chooses for the browser: pages that stay as they are, and no
// keys of one letter.
import assert from "node:assert/strict";

export default async function (story) {
  for (const colorScheme of ["light", "dark"]) {
    const page = await story.open({ colorScheme });
    await story.signIn(page, "tenant0");
    await story.ready(page);
    await page.keyboard.press("Control+k");
    const places = page.getByRole("dialog", { name: "Go to" });
    await places.getByRole("option", { name: "Overview" }).waitFor();
    await story.accessible(page);
    await page.keyboard.press("Escape");
    await places.waitFor({ state: "detached" });
    await page.goto(`${story.base}/preferences`);
    await story.accessible(page);
    await page.context().close();
  }

  const page = await story.open();
  await story.signIn(page, "tenant0");
  const places = page.getByRole("dialog", { name: "Go to" });
  const goTo = async (words, steps = 0) => {
    await story.ready(page);
    await page.keyboard.press("Control+k");
    await places.waitFor();
    await page.keyboard.type(words);
    for (let step = 0; step < steps; step += 1) await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
  };
  await goTo("new network", 1);
  await page.getByRole("heading", { level: 1, name: "New network" }).waitFor();
  assert.equal(new URL(page.url()).pathname, "/wizard");
  await page.getByLabel("Name of the network").fill("reached by keys");
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created network reached by keys");
  // What the page itself leads to comes first.
  await goTo("change");
  await page.getByRole("heading", { level: 1, name: "Change network reached by keys" }).waitFor();
  // What is no place is searched for.
  await goTo("reached by keys-2");
  await page.getByRole("heading", { level: 1, name: "reached by keys-2" }).waitFor();
  // With a mouse too; a click beside it closes it.
  await story.ready(page);
  await page.getByRole("button", { name: "Go to" }).click();
  await page.mouse.click(5, 5);
  await places.waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Go to" }).click();
  // The list is closed before the page is left: who goes back does not find it over the page.
  await page.evaluate(() => addEventListener("pagehide", () => {
    sessionStorage.setItem("left", document.querySelectorAll("dialog[open]").length);
  }));
  await places.getByRole("option", { name: "Security groups", exact: true }).click();
  await page.getByRole("heading", { level: 1, name: "Security groups" }).waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.getItem("left")), "0");

  // A page that is paused stays as it is, and so do the others, until they shall follow again.
  await page.goto(`${story.base}/networks`);
  await page.locator("#age").filter({ hasText: "As of" }).waitFor();
  await page.getByRole("button", { name: "Pause" }).click();
  await story.see(page, "This page stays as it was when you opened it.");
  assert.equal(new URL(page.url()).pathname, "/networks");
  let asked = 0;
  page.on("request", (request) => { asked += Number(new URL(request.url()).pathname === "/live"); });
  await page.goto(`${story.base}/ports`);
  await story.see(page, "This page stays as it was when you opened it.");
  assert.deepEqual([asked, await page.locator("[data-live]").count()], [0, 0]);
  await page.getByRole("button", { name: "Follow changes" }).click();
  await page.locator("#age").filter({ hasText: "As of" }).waitFor();

  // `/` is a letter like others once it is switched off.
  const hasSearch = () => page.evaluate(() => document.activeElement.id === "search");
  await story.ready(page);
  await page.keyboard.press("/");
  assert.ok(await hasSearch());
  await goTo("prefer");
  await page.getByLabel("The key / goes to the search").uncheck();
  await page.getByRole("button", { name: "Save" }).click();
  await story.notice(page, "Your preferences are kept");
  await page.goto(`${story.base}/networks`);
  await story.ready(page);
  await page.keyboard.press("/");
  assert.ok(!(await hasSearch()));
  assert.equal(await page.getByRole("button", { name: "Pause" }).count(), 1, "the other choice is as it was");
}
