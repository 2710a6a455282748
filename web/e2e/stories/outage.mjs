// A page that is not renewed says so, whoever is away, and goes on when they are back.
import assert from "node:assert/strict";

const silent = (page) => page.locator("#age.stale").filter({ hasText: "has not been heard of for 10 s" });
const away = (page) => page.locator("#age.stale").filter({ hasText: "The network service does not answer" });

async function well(page) {
  await page.locator("#age:not(.stale)").filter({ hasText: "As of" }).waitFor();
}

export default async function (story) {
  const page = await story.open();
  await story.signIn(page, "tenant0", "/networks");
  await well(page);

  // The API is away: the page says so, and of when it is; so does one whose stream must begin anew meanwhile.
  const again = await story.open({ storageState: await page.context().storageState() });
  await again.goto(`${story.base}/networks`);
  await well(again);
  await story.ask({ stop: "api" });
  await away(page).filter({ hasText: /As of \d\d:\d\d:\d\d UTC/ }).waitFor();
  await again.evaluate(() => {
    const { reader } = document.querySelector("[data-live]")._htmx.sse;
    document.getElementById("age").replaceChildren();
    return reader.cancel();
  });
  await away(again).filter({ hasText: /As of \d\d:\d\d:\d\d UTC/ }).waitFor();
  await story.accessible(page);
  await story.ask({ start: "api" });
  await well(page);
  await well(again);
  await again.close();

  // Nothing gets through to the dashboard and from it.
  const cut = await story.open({ storageState: await page.context().storageState() });
  const isLive = (url) => url.pathname === "/live";
  await cut.route(isLive, (route) => route.abort());
  await cut.goto(`${story.base}/networks`);
  await silent(cut).waitFor();
  await story.accessible(cut);
  await cut.unroute(isLive);
  await well(cut);
  await cut.close();

  // The dashboard itself ends: what is open says so, then that its session has ended with it.
  await page.reload();
  await well(page);
  const before = await page.locator("#age").innerText();
  await story.ask({ stop: "web" });
  await silent(page).waitFor();
  assert.match(await page.locator("#age").innerText(), /As of \d\d:\d\d:\d\d UTC$/, before);
  await story.ask({ start: "web" });
  await page.locator("#age").getByRole("link", { name: "Sign in" }).click();
  await story.signIn(page, "tenant0", "/networks");
  await well(page);
}
