// What others try: markup in names, forms from elsewhere, addresses of another project.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { oneOfEach, pagesOf } from "../fixture.mjs";
import { id } from "../story.mjs";

const MARKUP = `<img src=x onerror=alert(1)>"'><script>alert(2)</script>`;

// Whatever a name holds, it has become no part of the page. (Charts set styles of their own.)
async function inert(page, path) {
  const alien = await page.evaluate(() => {
    const drawn = (element) => element.closest(".chart") !== null;
    const handles = (element) => [...element.attributes].some(({ name }) => /^on/.test(name) || (name === "style" && !drawn(element)));
    return {
      scripts: document.querySelectorAll("script:not([src])").length,
      images: document.querySelectorAll("img, image").length,
      handlers: [...document.querySelectorAll("*")].filter(handles).length,
      links: document.querySelectorAll("a[href^='javascript:' i]").length,
    };
  });
  assert.deepEqual(alien, { scripts: 0, images: 0, handlers: 0, links: 0 }, path);
}

// An object of every kind has such a name and such a description: no page, and no part of one that comes later, is
// harmed by it.
async function everywhere(story, page) {
  const made = await oneOfEach(story, await story.ask({ project: "tenant0" }), MARKUP);
  try {
    const { ids } = made;
    const tenants = pagesOf(made).filter((path) => !path.startsWith("/hosts"));
    const others = ["/", "/map", `/search?q=${encodeURIComponent(MARKUP)}`, "/search?q=10.8.0.1"];
    for (const path of [...tenants, ...others]) {
      await page.goto(story.base + path);
      await inert(page, path);
      // What comes by the stream takes the place of what came with the page.
      if ((await page.locator("[data-live]").count()) > 0) {
        await page.locator("#age").filter({ hasText: "As of" }).waitFor();
        await inert(page, `${path}, renewed`);
      }
    }
    // That the names were there to do harm.
    const says = async (path, where) => {
      await page.goto(story.base + path);
      await page.locator(where).filter({ hasText: "<img src=x" }).first().waitFor({ state: "attached" });
    };
    await says("/map", "svg.map title");
    await says(`/search?q=${encodeURIComponent(MARKUP)}`, "main tbody td");
    await says(`/ports/${ids.ports}`, "#effective td");
    await says(`/ports/${ids.ports}/reach?direction=egress`, "main tbody th");
    await says(`/security-groups/${ids["security-groups"]}`, "#facts dd");
    await says(`/security-group-rules/${ids["security-group-rules"]}`, "#facts dd");
    await says(`/routers/${ids.routers}`, "h1");
    await says(`/subnet-pools/${ids["subnet-pools"]}`, "h1");
    await says(`/floating-ips/${ids["floating-ips"]}`, "#facts dd");
    await says("/audit", "main tbody td");
    // An operator sees them too.
    const operator = await story.open();
    await story.signIn(operator, "admin");
    for (const path of [`/ports/${ids.ports}`, `/networks/${ids.networks}`, "/ports?all=1", "/audit?all=1", `/audit/${ids.audit}`]) {
      await operator.goto(story.base + path);
      await inert(operator, path);
    }
    await operator.context().close();
  } finally {
    await made.remove();
  }
}

async function names(story, page) {
  await page.goto(`${story.base}/networks/new`);
  await page.getByLabel("Name", { exact: true }).fill(MARKUP);
  await page.getByLabel("Description").fill(MARKUP);
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created network <img");
  const network = id(page);
  await page.getByLabel("New tag").fill(`<b onclick=alert(3)>&tag`);
  await page.getByRole("button", { name: "Add" }).click();
  await story.notice(page, "Added tag <b");
  await page.goto(`${story.base}/subnets/new?network_id=${network}`);
  await page.getByLabel("Name", { exact: true }).fill(MARKUP);
  await page.getByLabel("CIDR", { exact: true }).fill("10.9.0.0/24");
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created subnet <img");
  await page.goto(`${story.base}/ports/new?network_id=${network}`);
  await page.getByLabel("Name", { exact: true }).fill(MARKUP);
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, "Created port <img");
  const port = id(page);
  const paths = [
    "/", "/networks", `/networks/${network}`, `/networks/${network}/edit`, `/networks/delete?id=${network}`, "/subnets",
    "/ports", `/ports/${port}`, `/ports/${port}/edit`, "/wizard", "/wizard/ranges?cidr=10.9.0.0/16",
    `/search?q=${encodeURIComponent(MARKUP)}`, `/ports?name=${encodeURIComponent(MARKUP)}`,
    `/networks?tags=${encodeURIComponent("<b onclick=alert(3)>&tag")}`,
  ];
  for (const path of paths) {
    await page.goto(story.base + path);
    await inert(page, path);
  }
  // A page that follows changes gets names that way too.
  await page.goto(`${story.base}/ports`);
  const other = await story.open({ storageState: await page.context().storageState() });
  await other.goto(`${story.base}/ports/${port}/edit`);
  await other.getByLabel("Name", { exact: true }).fill(`<hx-partial hx-target="body"><script>alert(4)</script>`);
  await other.getByRole("button", { name: "Save" }).click();
  await story.notice(other, "Changed port");
  await page.locator(`#row-${port}`).getByText("<hx-partial").waitFor();
  assert.equal(await page.evaluate(() => [...document.scripts].filter((script) => !script.src).length), 0);
  return { network, port };
}

async function forms(story, page, network) {
  const evil = createServer((_, response) => {
    response.setHeader("content-type", "text/html");
    response.end(`<form id="f" method="post" action="${story.base}/networks"><input name="name" value="evil"></form><script>f.submit()</script>`);
  });
  await new Promise((ready) => evil.listen(0, "127.0.0.1", ready));
  // Another port of the same machine: the browser sends the cookie along, so it is not the cookie that protects.
  const trap = await page.context().newPage();
  await trap.goto(`http://127.0.0.1:${evil.address().port}/`);
  await trap.getByRole("heading", { name: "Nothing was changed" }).waitFor();
  await trap.close();
  evil.close();
  const post = (path, form, headers = {}) => page.request.post(story.base + path, { form, headers, maxRedirects: 0 });
  for (const form of [{ name: "evil" }, { name: "evil", csrf: "" }, { name: "evil", csrf: "0".repeat(128) }]) {
    assert.equal((await post("/networks", form)).status(), 403);
    assert.equal((await post("/networks/delete", { ...form, id: network })).status(), 403);
    assert.equal((await post("/logout", form)).status(), 403);
    assert.equal((await post("/projects", form)).status(), 403);
    assert.equal((await post("/wizard", form)).status(), 403);
    assert.equal((await post("/login", form)).status(), 403);
  }
  const csrf = await page.locator("input[name=csrf]").first().inputValue();
  assert.equal((await post("/networks", { name: "evil", csrf }, { origin: "https://evil.example" })).status(), 403);
  assert.equal((await post("/networks", { name: "evil", csrf, colour: "red" })).status(), 400, "a field that no form has");
  await page.goto(`${story.base}/networks?name=evil`);
  await story.see(page, "No networks are so.");
}

async function strangers(story, { network, port }) {
  const page = await story.open();
  await story.signIn(page, "tenant1", "/login?next=//evil.example/");
  assert.equal(new URL(page.url()).origin, story.base, "only pages of the dashboard are gone to after signing in");
  const paths = [
    `/networks/${network}`, `/networks/${network}/edit`, `/networks/delete?id=${network}`, `/ports/${port}`, `/ports/${port}/edit`,
    `/live?of=/ports/${port}&once=1`, "/hosts", "/roles", "/live?of=/roles&once=1", "/ports/not-an-id", "/nothing", "/nothing/at/all",
  ];
  for (const path of paths) {
    const answer = await page.goto(story.base + path);
    assert.equal(answer.status(), 404, path);
    assert.match(answer.headers()["content-security-policy"], /default-src 'none'/);
  }
  await page.goto(`${story.base}/search?q=${port}`);
  await story.see(page, "Nothing is called so.");
  await page.goto(`${story.base}/ports`);
  await story.see(page, "There are no ports yet.");
}

export default async function (story) {
  const page = await story.open();
  await story.signIn(page, "tenant0");
  const [cookie] = (await page.context().cookies()).filter(({ name }) => name === "mizar-session");
  assert.deepEqual([cookie.httpOnly, cookie.sameSite], [true, "Lax"]);
  const made = await names(story, page);
  await forms(story, page, made.network);
  await strangers(story, made);
  await everywhere(story, page);
}
