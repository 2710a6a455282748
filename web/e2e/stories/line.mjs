// Pages follow changes over bad lines too: scripts come late one after the other, or something between
// collects an answer that does not end.
import assert from "node:assert/strict";

async function renewed(story, page) {
  await page.goto(`${story.base}/networks`);
  await page.locator("#age").filter({ hasText: "As of" }).waitFor();
}

export default async function (story) {
  const page = await story.open();
  await story.signIn(page, "tenant0");
  const storageState = await page.context().storageState();

  // Each script comes a while after the one before: the first must not begin without the others.
  const slow = await story.open({ storageState });
  let before = Promise.resolve();
  await slow.route(/\.js$/, async (route) => {
    before = before.then(() => new Promise((resolve) => setTimeout(resolve, 500)));
    await before;
    await route.continue();
  });
  await renewed(story, slow);

  // Of the stream, nothing ever arrives: the page asks by itself.
  const held = await story.open({ storageState });
  await held.route((url) => url.pathname === "/live" && !url.searchParams.has("once"), () => {});
  await renewed(story, held);
  // Nor is it then in doubt: what was asked for is news of the dashboard.
  await held.evaluate(() => {
    const age = document.getElementById("age");
    window.doubted = 0;
    new MutationObserver(() => { window.doubted += Number(age.classList.contains("stale")); })
      .observe(age, { attributes: true, childList: true, subtree: true });
  });
  for (let round = 0; round < 3; round += 1) {
    const before = await held.locator("#age").innerText();
    await story.until("the page is renewed again", async () => (await held.locator("#age").innerText()) !== before);
  }
  assert.equal(await held.evaluate(() => window.doubted), 0);
}
