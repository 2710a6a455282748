// What stories have in common: a browser that is watched, people who sign in, and what pages must be.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { cpus } from "node:os";
import { chromium } from "playwright-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

// Far longer than anything takes: others may keep the machine busy.
const PATIENCE = 60_000;

// A time that is promised of a machine with room to spare, on this one as it is now (`bed::stretched`).
export function stretched(ms) {
  const waiting = Number(readFileSync("/proc/loadavg", "utf8").split(" ")[0]);
  return ms * Math.min(8, Math.max(1, waiting / cpus().length));
}

export class Story {
  constructor(told, ask) {
    this.base = told.base;
    this.passwords = told.passwords;
    this.hosts = told.hosts;
    this.leaseMs = told.lease_s * 1000;
    this.out = told.out;
    this.executable = told.chromium;
    this.ask = ask;
    this.complaints = [];
    this.pages = [];
  }

  // A browser of its own, as another person has: nothing is shared with the others.
  async open(options = {}) {
    this.browser ??= await chromium.launch({ executablePath: this.executable, args: ["--no-sandbox"] });
    const context = await this.browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
    context.setDefaultTimeout(PATIENCE);
    const page = await context.newPage();
    this.watch(page);
    this.pages.push(page);
    return page;
  }

  // No page may ask another server for anything, break its own policy, or throw.
  watch(page) {
    page.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith(`${this.base}/`) && !url.startsWith("data:") && url !== "about:blank") {
        this.complaints.push(`a request to ${url}`);
      }
    });
    page.on("pageerror", (error) => this.complaints.push(`a script failed: ${error.message}`));
    page.on("dialog", (dialog) => {
      this.complaints.push(`a dialog: ${dialog.message()}`);
      dialog.dismiss();
    });
    page.on("console", (message) => {
      if (message.type() === "error" && /Content Security Policy|Refused/.test(message.text())) {
        this.complaints.push(message.text());
      }
    });
  }

  finish() {
    assert.deepEqual(this.complaints, []);
  }

  async signIn(page, user, path = "/") {
    await page.goto(this.base + path);
    await page.getByLabel("Name", { exact: true }).fill(user);
    await page.getByLabel("Password").fill(this.passwords[user]);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.waitForURL((url) => !url.pathname.startsWith("/login"));
  }

  // The menu, not the address: that it leads there is part of what is tested.
  async menu(page, label) {
    await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: label, exact: true }).click();
    await page.getByRole("heading", { level: 1, name: label }).waitFor();
  }

  // A key or a click that comes before the page's script listens is nobody's.
  async ready(page) {
    await page.locator("html[data-ready]").waitFor({ state: "attached" });
  }

  async see(page, text) {
    await page.getByText(text).first().waitFor();
  }

  async notice(page, text) {
    await page.getByRole("status").filter({ hasText: text }).waitFor();
  }

  // Waits for what another system does; `what` says it in the error.
  async until(what, done) {
    const end = Date.now() + PATIENCE;
    while (!(await done())) {
      if (Date.now() > end) throw new Error(`not within ${PATIENCE / 1000} s: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  // What `wait` waits for came in this time; a machine that others keep busy is given more.
  async within(ms, what, since, wait) {
    await wait;
    const took = Date.now() - since;
    const most = stretched(ms);
    console.error(`${what}: ${took} ms, and at most ${Math.round(most)}`);
    assert.ok(took <= most, `${what} took ${took} ms instead of ${Math.round(most)} at most`);
  }

  // Nothing that axe calls serious or critical, and nothing wider than the window.
  async accessible(page) {
    await page.evaluate(AXE);
    const { violations } = await page.evaluate(() => window.axe.run(document, {
      runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    }));
    const bad = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
    const said = bad.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join("; ")}`);
    assert.deepEqual(said, [], page.url());
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    assert.ok(wide <= 0, `${page.url()} is ${wide} px wider than the window`);
  }

  // For whoever wants to look: MIZAR_PICTURES names a folder.
  async keep(page, name) {
    if (process.env.MIZAR_PICTURES) await page.screenshot({ path: `${process.env.MIZAR_PICTURES}/${name}.png`, fullPage: true });
  }

  async picture(name) {
    for (const [n, page] of this.pages.entries()) {
      if (!page.isClosed()) await page.screenshot({ path: `${this.out}/${name}-${n}.png` }).catch(() => {});
    }
  }

  // What each window shows, for whoever reads why a story failed.
  async shown() {
    const said = this.pages.filter((page) => !page.isClosed()).map(async (page, n) => {
      const text = await page.locator("body").innerText({ timeout: 5000 }).catch((error) => `(${error.message})`);
      const age = await page.locator("#age").textContent({ timeout: 100 }).catch(() => "does not follow changes");
      return `window ${n}, ${page.url()}, ${age || "no message came"}:\n${text.slice(0, 2000).replaceAll(/^/gm, "  | ")}`;
    });
    return (await Promise.all(said)).join("\n");
  }

  async close() {
    await this.browser?.close();
  }
}

export function id(page) {
  return new URL(page.url()).pathname.split("/")[2];
}
