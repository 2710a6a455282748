// Two people see each other's changes; what one has marked stays marked.
import assert from "node:assert/strict";
import { id } from "../story.mjs";

// What is promised (`handlers/live.rs`): a change is seen within two seconds, and however much changes, two messages a second are all.
const SEEN_MS = 2000;
const A_SECOND = 2;
const COUNTED_MS = 6000;

// Changes that come faster than anybody reads do not make a page that follows them busy.
async function bounded(story, page, network) {
  await page.goto(`${story.base}/networks`);
  await page.locator("#age").filter({ hasText: "As of" }).waitFor();
  await page.evaluate(() => {
    window.messages = [];
    document.addEventListener("htmx:sse:after:message", (event) => {
      if (!event.detail.message.event) window.messages.push(performance.now());
    });
  });
  const since = Date.now();
  let changes = 0;
  while (Date.now() - since < COUNTED_MS) {
    changes += 1;
    await story.ask({ put: { path: `/v2.0/networks/${network}`, body: { network: { name: `change ${changes}` } } } });
  }
  const seconds = (Date.now() - since) / 1000;
  const messages = await page.evaluate(() => window.messages.length);
  console.error(`${changes} changes in ${seconds} s came in ${messages} messages`);
  // So many that one message for each would be too many.
  assert.ok(changes > 2 * A_SECOND * seconds, `${changes} changes in ${seconds} s show nothing`);
  assert.ok(messages >= 1, "the page follows");
  assert.ok(messages <= A_SECOND * seconds + 1, `${messages} messages in ${seconds} s`);
  await page.locator(`#row-${network}`).getByText(`change ${changes}`, { exact: true }).waitFor();
  await story.ask({ put: { path: `/v2.0/networks/${network}`, body: { network: { name: "renamed" } } } });
  await page.goto(`${story.base}/networks/${network}`);
  await page.getByRole("heading", { level: 1, name: "renamed" }).waitFor();
}

export default async function (story) {
  const first = await story.open();
  await story.signIn(first, "tenant0");
  await first.goto(`${story.base}/networks/new`);
  await first.getByLabel("Name", { exact: true }).fill("ours");
  await first.getByRole("button", { name: "Create" }).click();
  await story.notice(first, "Created network ours.");
  const network = id(first);
  await first.goto(`${story.base}/networks`);
  await first.getByLabel("Choose ours").check();
  await first.locator("#age").filter({ hasText: "As of" }).waitFor();

  const second = await story.open();
  await story.signIn(second, "tenant0", `/networks/${network}/edit`);
  await second.getByLabel("Name", { exact: true }).fill("theirs");
  const since = Date.now();
  const seen = story.within(SEEN_MS, "a change is seen by another", since, first.locator(`#row-${network}`).getByText("theirs").waitFor());
  await second.getByRole("button", { name: "Save" }).click();
  await seen;
  await story.notice(second, "Changed network theirs.");
  await first.locator(`#choose-${network}:checked`).waitFor();

  // Who did it is told to everybody of the project, and not from where.
  await first.goto(story.base);
  const changes = first.locator("#changes");
  await changes.getByRole("row", { name: "update network" }).getByRole("link", { name: "theirs" }).first().waitFor();
  await changes.getByText("tenant0").first().waitFor();
  await story.menu(first, "Audit log");
  await first.getByRole("link", { name: "create network" }).first().click();
  await first.getByRole("heading", { level: 1, name: "create network" }).waitFor();
  await first.locator("#facts").getByRole("link", { name: "theirs" }).waitFor();
  for (const hidden of ["127.0.0.1", "Request", "What was sent"]) {
    assert.equal(await first.getByText(hidden).count(), 0, hidden);
  }

  // The form of the first is of an older state by now: it is not overwritten.
  await first.goto(`${story.base}/networks/${network}/edit`);
  await second.goto(`${story.base}/networks/${network}/edit`);
  await second.getByLabel("Description").fill("second");
  await second.getByRole("button", { name: "Save" }).click();
  await story.notice(second, "Changed network theirs.");
  await first.getByLabel("Description").fill("first");
  await first.getByRole("button", { name: "Save" }).click();
  await story.see(first, "Somebody changed it since");

  // Name and tags of what is being looked at follow too; a tag that came so can be taken away.
  await first.goto(`${story.base}/networks/${network}`);
  await second.goto(`${story.base}/networks/${network}`);
  await second.getByLabel("New tag").fill("shared");
  await second.getByRole("button", { name: "Add" }).click();
  await story.notice(second, "Added tag shared.");
  await second.goto(`${story.base}/networks/${network}/edit`);
  await second.getByLabel("Name", { exact: true }).fill("renamed");
  await second.getByRole("button", { name: "Save" }).click();
  await story.notice(second, "Changed network renamed.");
  await first.getByRole("heading", { level: 1, name: "renamed" }).waitFor();
  await first.getByRole("button", { name: "Remove tag shared" }).click();
  await story.notice(first, "Removed tag shared.");

  await bounded(story, first, network);

  // What was deleted says so, where it is being looked at.
  await second.goto(`${story.base}/networks/delete?id=${network}`);
  await second.getByRole("button", { name: "Delete" }).click();
  await story.notice(second, "Deleted network renamed.");
  await first.getByText("This was deleted meanwhile").waitFor();
}
