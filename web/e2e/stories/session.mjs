// A session ends, and whoever signs in again is back where it was.
import assert from "node:assert/strict";

async function again(story, page, user) {
  await page.getByLabel("Name", { exact: true }).fill(user);
  await page.getByLabel("Password").fill(story.passwords[user]);
  await page.getByRole("button", { name: "Sign in" }).click();
}

export default async function (story) {
  const page = await story.open();
  await page.goto(`${story.base}/ports?status=ACTIVE`);
  await page.getByLabel("Name", { exact: true }).fill("tenant0");
  await page.getByLabel("Password").fill("wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").filter({ hasText: "is wrong" }).waitFor();
  await again(story, page, "tenant0");
  await page.waitForURL(`${story.base}/ports?status=ACTIVE`);

  // The dashboard is restarted: an open page says so, the next one asks to sign in, and leads back.
  const form = await story.open({ storageState: await page.context().storageState() });
  await form.goto(`${story.base}/networks/new`);
  await page.goto(`${story.base}/networks?status=ACTIVE`);
  await story.ask({ restart: "web" });
  await page.getByText("Your session has ended").waitFor();
  await page.locator("#age").getByRole("link", { name: "Sign in" }).click();
  await again(story, page, "tenant0");
  await page.waitForURL(`${story.base}/networks?status=ACTIVE`);

  // A form of the ended session is not done, and its page is gone back to.
  await form.getByLabel("Name", { exact: true }).fill("late");
  await form.getByRole("button", { name: "Create" }).click();
  await story.see(form, "what you sent was not done");
  await again(story, form, "tenant0");
  await form.waitForURL(`${story.base}/networks/new`);
  await form.getByLabel("Name", { exact: true }).fill("in time");
  await form.getByRole("button", { name: "Create" }).click();
  await story.notice(form, "Created network in time.");

  // Who signs out is out in every window.
  const twin = await story.open({ storageState: await form.context().storageState() });
  await twin.goto(`${story.base}/networks`);
  await twin.getByText("in time").waitFor();
  await form.locator("details.who summary").click();
  await form.getByRole("button", { name: "Sign out" }).click();
  await twin.getByText("Your session has ended").waitFor();
  await twin.goto(`${story.base}/networks`);
  assert.equal(new URL(twin.url()).pathname, "/login");
}
