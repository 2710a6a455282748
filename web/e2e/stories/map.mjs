// The map is drawn so that it can be read, however narrow the window; what is pointed at stays lit while others
// change what it shows.
import assert from "node:assert/strict";
import { id } from "../story.mjs";

// Letters of the picture in pixels of the window; the browser's own are 16.
const LEGIBLE = 12;

async function legible(page) {
  const map = page.locator("svg.map");
  await map.waitFor();
  const seen = await map.evaluate((svg) => ({
    letters: Math.min(...[...svg.querySelectorAll("text")].map((text) => parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a)),
    room: svg.parentElement.clientWidth,
    wide: svg.parentElement.scrollWidth,
    drawn: svg.width.baseVal.value,
  }));
  assert.ok(seen.letters >= LEGIBLE, `letters of ${seen.letters} px: ${JSON.stringify(seen)}`);
  assert.ok(seen.wide >= Math.min(seen.drawn, seen.room), JSON.stringify(seen));
  if (seen.drawn > seen.room) assert.ok(seen.wide >= seen.drawn, `what does not fit is scrolled to: ${JSON.stringify(seen)}`);
}

async function made(story, page, name) {
  await page.goto(`${story.base}/wizard`);
  await page.getByLabel("Name of the network").fill(name);
  await page.getByLabel("It may overlap").check();
  await page.getByRole("button", { name: "Create" }).click();
  await story.notice(page, `Created network ${name}`);
  return id(page);
}

export default async function (story) {
  const page = await story.open();
  await story.signIn(page, "tenant0");
  const network = await made(story, page, "near");
  await made(story, page, "far");
  await page.goto(`${story.base}/map`);
  await legible(page);
  for (const width of [1024, 360]) {
    await page.setViewportSize({ width, height: 740 });
    await legible(page);
    await story.accessible(page);
  }
  await page.setViewportSize({ width: 1280, height: 900 });

  // What belongs to it is lit, and nothing else; also after a message has brought the map anew.
  const map = page.locator("svg.map");
  const node = (name) => map.getByRole("link", { name, exact: true });
  const lit = async () => {
    assert.equal(await page.locator("svg.map.lights").count(), 1, "something is lit");
    const titles = await map.locator(".node.lit title").allTextContents();
    return titles.map((title) => title.split(",")[0].replace(/^near$|^renamed-.*$/, "it")).sort();
  };
  const NEAR = ["it", "near-1", "near-2", "near-subnet"];
  await page.locator("#age").filter({ hasText: "As of" }).waitFor();
  let name = "near";
  for (const [way, point] of [["mouse", () => node(name).hover()], ["keys", () => node(name).focus()]]) {
    await page.mouse.move(1, 1);
    await point();
    assert.deepEqual(await lit(), NEAR, way);
    assert.ok((await map.locator(".edge.lit").count()) >= 3, way);
    name = `renamed-${way}`;
    await story.ask({ put: { path: `/v2.0/networks/${network}`, body: { network: { name } } } });
    await node(name).waitFor();
    await story.until(`what the ${way} point at is lit again`, async () => (await page.locator("svg.map.lights").count()) === 1);
    assert.deepEqual(await lit(), NEAR, `${way}, after a message`);
  }
}
