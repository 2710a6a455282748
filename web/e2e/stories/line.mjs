// Pages follow changes over bad lines too: scripts come late one after the other, or something between
// collects an answer that does not end.
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
}
