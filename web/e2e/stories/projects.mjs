// Somebody with roles in two projects chooses one, and switches; somebody who may only read is offered nothing that
// would be refused.
import assert from "node:assert/strict";
import { KINDS, oneOfEach, pagesOf } from "../fixture.mjs";

// A user with these roles, by project; without a default project where none is named.
async function user(story, name, roles, byDefault) {
  const only = async (kind, name) => (await story.ask({ get: `/v3/${kind}s?name=${name}` }))[`${kind}s`][0].id;
  story.passwords[name] = `${name}-knows-this-word`;
  const body = { user: { name, domain_id: "default", password: story.passwords[name], default_project_id: byDefault } };
  const made = await story.ask({ post: { path: "/v3/users", body } });
  for (const [project, role] of roles) {
    await story.ask({ put: { path: `/v3/projects/${project}/users/${made.user.id}/roles/${await only("role", role)}` } });
  }
  return () => story.ask({ delete: `/v3/users/${made.user.id}` });
}

const says = (page, project) => page.locator("details.who summary").filter({ hasText: `${project} as` }).waitFor();

async function make(story, page, name) {
  await page.goto(`${story.base}/networks/new`);
  await page.getByLabel("Name", { exact: true }).fill(name);
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, `Created network ${name}.`);
}

async function switching(story, first, second) {
  const page = await story.open();
  await story.signIn(page, "both", "/networks?sort=name");
  await page.getByRole("heading", { level: 1, name: "Choose a project" }).waitFor();
  await story.accessible(page);
  await page.getByRole("button", { name: second, exact: true }).click();
  // To the page that was asked for before anybody was signed in.
  await page.waitForURL(`${story.base}/networks?sort=name`);
  await says(page, second);
  await make(story, page, "of the second");
  const left = await page.context().newPage();
  await left.goto(`${story.base}/networks/new`);

  await page.locator("details.who summary").click();
  await page.getByRole("link", { name: "Switch project" }).click();
  await story.accessible(page);
  await page.getByRole("button", { name: first, exact: true }).click();
  await says(page, first);
  await page.goto(`${story.base}/networks`);
  await story.see(page, "There are no networks yet.");
  // What was left open in the other project does nothing in this one.
  await left.getByLabel("Name", { exact: true }).fill("in the wrong project");
  await left.getByRole("button", { name: "Create" }).click();
  await left.getByRole("heading", { level: 1, name: "Nothing was changed" }).waitFor();
  await left.close();
  await page.goto(`${story.base}/networks`);
  await story.see(page, "There are no networks yet.");
  await page.goto(`${story.base}/projects`);
  await page.getByRole("button", { name: second, exact: true }).click();
  await says(page, second);
  await page.goto(`${story.base}/networks`);
  await page.getByRole("link", { name: "of the second" }).waitFor();
}

async function reading(story, made) {
  const page = await story.open();
  await story.signIn(page, "reader");
  const kinds = KINDS.filter((kind) => !kind.operator);
  const shown = kinds.map((kind) => ({ ...kind, create: false, edit: false, remove: false }));
  for (const path of ["/", "/map", "/preferences", "/search?q=seen", ...pagesOf(made, shown)]) {
    const answer = await page.goto(story.base + path);
    assert.equal(answer.status(), 200, path);
    // Who may only look is offered what may be done: narrow, search, ask, pause.
    const offered = await page.evaluate(() => ({
      links: [...document.querySelectorAll("main a[href]")].map((a) => a.getAttribute("href"))
        .filter((href) => /\/(new|edit|delete)(\?|$)|^\/wizard/.test(href)),
      forms: [...document.querySelectorAll("form[method=post]")].map((form) => form.getAttribute("action"))
        .filter((action) => !["/preferences", "/logout"].includes(action)),
      buttons: [...document.querySelectorAll("main button[form]")].map((button) => button.textContent),
      boxes: document.querySelectorAll("main tbody input").length,
      places: [...document.getElementById("places").content.querySelectorAll("[data-href]")].map((place) => place.dataset.href)
        .filter((href) => /\/new$|^\/wizard/.test(href)),
    }));
    assert.deepEqual(offered, { links: [], forms: [], buttons: [], boxes: 0, places: [] }, path);
  }
  // By their addresses forms are refused before anything is asked.
  for (const path of pagesOf(made, kinds).filter((path) => /\/(new|edit)$|\/delete\?/.test(path))) {
    assert.equal((await page.goto(story.base + path)).status(), 403, path);
  }
  await story.see(page, "your role in project tenant0 is to read");
  // It follows changes as others' pages do.
  await page.goto(`${story.base}/networks/${made.ids.networks}`);
  await story.ask({ put: { path: `/v2.0/networks/${made.ids.networks}`, body: { network: { name: "seen to change" } } } });
  await page.getByRole("heading", { level: 1, name: "seen to change" }).waitFor();
}

export default async function (story) {
  const [first, second] = [await story.ask({ project: "tenant0" }), await story.ask({ project: "tenant1" })];
  const removed = [];
  try {
    removed.push(await user(story, "both", [[first, "member"], [second, "member"]]));
    await switching(story, "tenant0", "tenant1");
    removed.push(await user(story, "reader", [[first, "reader"]], first));
    const made = await oneOfEach(story, first, "seen");
    removed.push(made.remove);
    await reading(story, made);
  } finally {
    for (const remove of removed.reverse()) await remove();
  }
}
