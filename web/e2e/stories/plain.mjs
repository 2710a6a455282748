// Without JavaScript: sign in, create, change, tag, delete.
export default async function (story) {
  const page = await story.open({ javaScriptEnabled: false });
  await story.signIn(page, "tenant0");
  await page.goto(`${story.base}/networks`);
  await page.getByRole("link", { name: "New network", exact: true }).click();
  await page.getByLabel("Name", { exact: true }).fill("quiet");
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created network quiet.");
  await page.getByRole("link", { name: "New subnet" }).click();
  await page.getByLabel("CIDR", { exact: true }).fill("10.3.0.0/24");
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created subnet");
  await page.getByRole("link", { name: "quiet" }).click();
  await page.getByRole("link", { name: "New port" }).click();
  await page.getByLabel("Name", { exact: true }).fill("one");
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created port one.");
  await page.getByLabel("New tag").fill("slow lane");
  await page.getByRole("button", { name: "Add" }).click();
  await story.notice(page, "Added tag slow lane.");
  await page.getByRole("link", { name: "slow lane" }).click();
  await page.getByRole("link", { name: "one", exact: true }).click();
  await page.getByRole("button", { name: "Remove tag slow lane" }).click();
  await story.notice(page, "Removed tag slow lane.");
  await page.getByRole("link", { name: "Change" }).click();
  await page.getByLabel("Name", { exact: true }).fill("uno");
  await page.getByRole("button", { name: "Save" }).click();
  await story.notice(page, "Changed port uno.");
  await page.getByRole("link", { name: "Delete…" }).click();
  await page.getByRole("button", { name: "Delete" }).click();
  await story.notice(page, "Deleted port uno.");
  // The wizard says what a range overlaps when it is sent.
  await page.goto(`${story.base}/wizard`);
  await page.getByLabel("Name of the network").fill("second");
  await page.getByLabel("CIDR of the subnet").fill("10.3.0.0/16");
  await page.getByRole("button", { name: "Create" }).click();
  await story.see(page, "It overlaps");
  await page.getByLabel("It may overlap").check();
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created network second with a subnet and 2 ports.");
  await page.locator("details.who summary").click();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("button", { name: "Sign in" }).waitFor();
}
