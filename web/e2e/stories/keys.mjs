// With Tab, Enter and the space bar alone, from signing in to deleting, and always seeing where one is; and without
// motion for whoever wants none.
import assert from "node:assert/strict";

// More stops than any page has that this story comes by.
const STOPS = 150;

// What has the focus: what it is called, and whether it can be seen that it has it.
const focused = (page) => page.evaluate(() => {
  // One of them is not transparent, and is spread.
  const isShadow = (all) => all.split(/,(?![^(]*\))/).some((one) => /[1-9][\d.]*px/.test(one) && !/rgba\([^)]*, 0\)/.test(one));
  const at = document.activeElement;
  const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(at);
  const shape = at.querySelector("rect") && getComputedStyle(at.querySelector("rect"));
  const label = at.getAttribute("aria-label") ?? at.labels?.[0]?.textContent ?? at.textContent;
  return {
    name: label.replaceAll(/\s+/g, " ").trim(),
    kind: at.tagName.toLowerCase(),
    // A mark around it, or (on the map) a stronger line.
    seen: (outlineStyle !== "none" && parseFloat(outlineWidth) > 0) || isShadow(boxShadow) || parseFloat(shape?.strokeWidth ?? 0) > 2,
    page: at === document.body,
  };
});

// Tab until what is wanted has the focus; every stop on the way can be seen.
async function tabTo(page, kind, name) {
  const stops = [];
  for (let stop = 0; stop < STOPS; stop += 1) {
    await page.keyboard.press("Tab");
    const at = await focused(page);
    if (!at.page) {
      assert.ok(at.seen, `${page.url()}: it cannot be seen that ${at.kind} "${at.name}" has the focus`);
      if (at.kind === kind && (typeof name === "string" ? at.name === name : name.test(at.name))) return;
    }
    stops.push(`${at.kind} "${at.name}"`);
  }
  throw new Error(`${page.url()}: no Tab comes to ${kind} "${name}", but to ${stops.slice(0, 60).join(", ")}`);
}

async function follow(page, name) {
  await tabTo(page, "a", name);
  await page.keyboard.press("Enter");
}

async function press(page, name) {
  await tabTo(page, "button", name);
  await page.keyboard.press("Enter");
}

async function write(page, name, text) {
  await tabTo(page, "input", name);
  await page.keyboard.press("Control+a");
  await page.keyboard.type(text);
}

async function journey(story) {
  // Marks come at once then, and need not be waited for.
  const page = await story.open({ reducedMotion: "reduce" });
  await page.goto(story.base);
  // The first field has the focus: Tab leads on.
  await page.locator("#user:focus").waitFor();
  await page.keyboard.type("tenant0");
  await write(page, "Password", story.passwords.tenant0);
  await press(page, "Sign in");
  await story.see(page, "This project has no network yet.");
  await story.ready(page);

  // The first stop leads past the menu.
  await page.keyboard.press("Tab");
  assert.equal((await focused(page)).name, "Skip to the content");
  await page.keyboard.press("Enter");
  await follow(page, "New network with ports");
  await page.getByRole("heading", { level: 1, name: "New network with ports" }).waitFor();
  await write(page, /^Name of the network/, "by keys");
  await press(page, "Create");
  await story.notice(page, "Created network by keys with a subnet and 2 ports.");
  await follow(page, "by keys-1");
  await page.getByRole("heading", { level: 1, name: "by keys-1" }).waitFor();
  await follow(page, "Change");
  await page.getByRole("heading", { level: 1, name: "Change port by keys-1" }).waitFor();
  await write(page, "Name", "till");
  await press(page, "Save");
  await story.notice(page, "Changed port till.");
  await write(page, "New tag", "front");
  await page.keyboard.press("Enter");
  await story.notice(page, "Added tag front.");

  // The map is gone through by keys too, and what is on it is followed.
  await follow(page, "Map");
  await page.locator("svg.map").waitFor();
  await tabTo(page, "a", /^till/);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: "till" }).waitFor();

  await follow(page, "Ports");
  await page.getByRole("heading", { level: 1, name: "Ports" }).waitFor();
  await tabTo(page, "input", "Choose till");
  await page.keyboard.press("Space");
  await press(page, "Delete the chosen…");
  await page.getByRole("heading", { name: "Delete port till" }).waitFor();
  await press(page, "Delete");
  await story.notice(page, "Deleted port till.");
  await tabTo(page, "summary", /^tenant0/);
  await page.keyboard.press("Enter");
  await press(page, "Sign out");
  await page.getByRole("button", { name: "Sign in" }).waitFor();
}

// Elements that would move or fade.
const moving = (page) => page.evaluate(() => [...document.querySelectorAll("*")].filter((element) => {
  const { transitionDuration, transitionProperty, animationName, scrollBehavior } = getComputedStyle(element);
  const moves = transitionProperty !== "none" && transitionDuration.split(", ").some((time) => parseFloat(time) > 0);
  return moves || animationName !== "none" || scrollBehavior === "smooth";
}).map((element) => element.tagName.toLowerCase()));

async function still(story) {
  for (const reducedMotion of ["reduce", "no-preference"]) {
    const page = await story.open({ reducedMotion });
    await story.signIn(page, "tenant0");
    for (const path of ["/", "/networks", "/networks/new", "/map", "/preferences"]) {
      await page.goto(story.base + path);
      await story.ready(page);
      await page.keyboard.press("Control+k");
      await page.getByRole("dialog", { name: "Go to" }).waitFor();
      const all = await moving(page);
      if (reducedMotion === "reduce") assert.deepEqual(all, [], path);
      else assert.ok(all.length > 0, `${path} has nothing that moves for anybody, so this shows nothing`);
    }
    await page.context().close();
  }
}

export default async function (story) {
  await journey(story);
  await still(story);
}
