// Two people see each other's changes; what one has marked stays marked.
import { id } from "../story.mjs";

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
  await second.getByRole("button", { name: "Save" }).click();
  await story.notice(second, "Changed network theirs.");
  const since = Date.now();
  await first.locator(`#row-${network}`).getByText("theirs").waitFor();
  console.error(`a change was seen by another after ${Date.now() - since} ms`);
  await first.locator(`#choose-${network}:checked`).waitFor();

  // The form of the first is of an older state by now: it is not overwritten.
  await first.goto(`${story.base}/networks/${network}/edit`);
  await second.goto(`${story.base}/networks/${network}/edit`);
  await second.getByLabel("Description").fill("second");
  await second.getByRole("button", { name: "Save" }).click();
  await story.notice(second, "Changed network theirs.");
  await first.getByLabel("Description").fill("first");
  await first.getByRole("button", { name: "Save" }).click();
  await story.see(first, "Somebody changed it since");

  // What was deleted says so, where it is being looked at.
  await first.goto(`${story.base}/networks/${network}`);
  await second.goto(`${story.base}/networks/delete?id=${network}`);
  await second.getByRole("button", { name: "Delete" }).click();
  await story.notice(second, "Deleted network theirs.");
  await first.getByText("This was deleted meanwhile").waitFor();
}
