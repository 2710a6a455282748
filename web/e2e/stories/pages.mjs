// Every page, in light and dark, wide and narrow: nothing that axe calls serious, nothing wider than the window.
import assert from "node:assert/strict";
import { KINDS, oneOfEach, pagesOf } from "../fixture.mjs";

const LONG = "a-name-that-somebody-made-by-a-program-and-that-no-table-has-room-for-".repeat(3);

// Pages that are no object's: all answer with 200.
const OTHERS = [
  "/", "/map", "/preferences", "/projects", "/wizard", "/search", "/search?q=shop", `/search?q=${LONG}`, "/ports?status=ERROR",
];
// Those that say what is wrong.
const WRONG = { "/nothing": 404, "/ports?colour=red": 400 };

async function walk(story, options, user, { paths, wrong = {} }, name) {
  const page = await story.open(options);
  await page.goto(`${story.base}/login?ended=page`);
  await story.accessible(page);
  await story.signIn(page, user);
  for (const path of [...paths, ...Object.keys(wrong)]) {
    const answer = await page.goto(story.base + path);
    assert.equal(answer.status(), wrong[path] ?? 200, path);
    if (KINDS.some((kind) => path === `/${kind.path}`)) {
      assert.ok((await page.locator("main tbody tr").count()) > 0, `${path} is looked at with something in it`);
    }
    await story.accessible(page);
    await story.keep(page, `${name}-${path.replaceAll(/[^a-z]+/g, "-").slice(0, 40)}`);
  }
  await page.context().close();
}

async function visited(story, page, made) {
  const [tenants, operators] = [false, true].map((operator) => KINDS.filter((kind) => kind.operator === operator));
  const { networks, "security-groups": group } = made.ids;
  const tenant = {
    paths: [...OTHERS, ...pagesOf(made, tenants), `/ports/new?network_id=${networks}`, `/security-group-rules/new?security_group_id=${group}`],
    wrong: WRONG,
  };
  const operator = {
    paths: ["/", "/roles", "/map", ...pagesOf(made, operators), ...tenants.map(({ path }) => `/${path}?all=1`), `/networks/${networks}`, `/ports/${made.ids.ports}`],
  };
  // Whatever kind comes, a page of it is among these.
  const all = [...tenant.paths, ...operator.paths];
  assert.deepEqual(KINDS.filter(({ path }) => !all.includes(`/${path}/${made.ids[path]}`)), []);
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

export default async function (story) {
  const page = await story.open();
  await story.signIn(page, "tenant0", "/wizard");
  await page.getByLabel("Name of the network").fill("shop");
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created network shop");
  const made = await oneOfEach(story, await story.ask({ project: "tenant0" }), LONG);
  try {
    await visited(story, page, made);
  } finally {
    await made.remove();
  }
}
