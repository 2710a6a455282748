// Every page, in light and dark, wide and narrow: nothing that axe calls serious, nothing wider than the window.
import { id } from "../story.mjs";

const LONG = "a-name-that-somebody-made-by-a-program-and-that-no-table-has-room-for-".repeat(3);

async function walk(story, options, user, paths, name) {
  const page = await story.open(options);
  await page.goto(`${story.base}/login?ended=page`);
  await story.accessible(page);
  await story.signIn(page, user);
  for (const path of paths) {
    await page.goto(story.base + path);
    await story.accessible(page);
    const file = `${name}-${path.replaceAll(/[^a-z]+/g, "-").slice(0, 40)}`;
    await story.keep(page, file);
  }
  await page.context().close();
}

export default async function (story) {
  const page = await story.open();
  await story.signIn(page, "tenant0", "/wizard");
  await page.getByLabel("Name of the network").fill("shop");
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created network shop");
  const network = id(page);
  await page.getByRole("link", { name: "shop-1" }).click();
  await page.getByRole("heading", { level: 1, name: "shop-1" }).waitFor();
  const port = id(page);
  await page.goto(`${story.base}/networks/new`);
  await page.getByLabel("Name", { exact: true }).fill(LONG);
  await page.getByLabel("Description").fill(LONG);
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created network a-name");
  const long = id(page);
  await page.goto(`${story.base}/security-groups?name=default`);
  await page.getByRole("link", { name: "default", exact: true }).click();
  await page.getByRole("heading", { level: 1, name: "default" }).waitFor();
  const group = id(page);
  const tenant = [
    "/", "/map", "/networks", "/subnets", "/ports", "/security-groups", "/routers", "/floating-ips", "/subnet-pools", "/audit",
    `/networks/${network}`, `/networks/${long}`, `/ports/${port}`, `/ports/${port}/reach`, `/ports/${port}/trace`, `/ports/${port}/drops`, `/ports/${port}/flows`,
    "/preferences",
    `/security-groups/${group}`,
    "/networks/new", "/subnets/new", "/ports/new", "/security-groups/new", "/security-group-rules/new", "/routers/new",
    "/floating-ips/new", "/subnet-pools/new", `/networks/${network}/edit`, `/ports/${port}/edit`,
    `/networks/delete?id=${network}`, `/networks/delete?id=${network}&id=${long}`, "/wizard", "/search?q=shop", "/search",
    "/ports?status=ERROR", "/nothing", "/projects", "/ports?colour=red",
  ];
  const host = await story.ask({ host: story.hosts[0] });
  const operator = ["/", "/hosts", `/hosts/${host}`, `/hosts/${host}/drops`, "/roles", "/audit", "/audit?all=1", "/networks?all=1", `/networks/${network}`];
  await page.goto(`${story.base}/subnets/new?cidr=wrong`);
  await page.getByRole("button", { name: "Create" }).evaluate((button) => { button.form.noValidate = true; button.click(); });
  await page.locator("#cidr-error").waitFor();
  await story.accessible(page);
  for (const colorScheme of ["light", "dark"]) {
    await walk(story, { colorScheme }, "tenant0", tenant, colorScheme);
    await walk(story, { colorScheme }, "admin", operator, `${colorScheme}-operator`);
  }
  const narrow = { viewport: { width: 360, height: 740 } };
  await walk(story, narrow, "tenant0", tenant, "narrow");
  await walk(story, narrow, "admin", operator, "narrow-operator");
}
