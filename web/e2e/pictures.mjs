// Makes the pictures of docs/ from a running sandbox with its demo (`./dev up`): node pictures.mjs DASHBOARD [FOLDER]
//
// What there is to see is made by the command line first and deleted after. A picture that is wider than its window
// fails; those who make pictures look at each of them all the same.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Story } from "./story.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "../..");
const [base, folder = join(root, "docs/pictures")] = process.argv.slice(2);
if (!base) {
  console.error("usage: node pictures.mjs DASHBOARD [FOLDER]");
  process.exit(64);
}
// Those of `./dev`: of the default sandbox they lie beside the directories of the others.
const sandbox = process.env.MIZAR_SANDBOX;
const clouds = join(root, ".dev", sandbox && sandbox !== "main" ? sandbox : ".", "clouds.yaml");
const passwords = Object.fromEntries(
  [...readFileSync(clouds, "utf8").matchAll(/username: (\w+)\n +password: (\w+)/g)].map(([, user, word]) => [user, word]),
);
const LONG = "frontends-of-the-shop-in-the-second-region-that-a-program-named-and-no-table-has-room-for";

function mizar(cloud, ...words) {
  const environment = { ...process.env, OS_CLIENT_CONFIG_FILE: clouds, OS_CLOUD: cloud };
  return execFileSync(join(root, "target/debug/mizar"), words, { env: environment, encoding: "utf8", stdio: "pipe" }).trim();
}
const red = (line) => mizar("red", ...line.split(" "));
const admin = (line) => mizar("mizar-admin", ...line.split(" "));
const idOf = (noun, name) => red(`${noun} show ${name} -o value -c id`);
// What is not there cannot be deleted; all else is told.
function quietly(call, line) {
  try {
    call(line);
  } catch (error) {
    if (error.status !== 3) throw error;
  }
}

function speak(from, to, count = 3) {
  const ping = ["ping", "-c", String(count), "-i", "0.2", "-W", "1", to];
  execFileSync(join(root, "target/debug/mizar"), ["dev", "exec", idOf("port", from), "--", ...ping], { stdio: "ignore" });
}

function prepare() {
  admin("network create outside --external");
  admin("subnet create outside --network outside --cidr 203.0.113.0/24 --no-dhcp");
  red("security-group create web --description servers");
  red("security-group-rule create web --protocol tcp --port-min 443 --port-max 443 --remote-ip 0.0.0.0/0");
  red("security-group-rule create web --protocol tcp --port-min 8080 --port-max 8090 --remote-group default");
  red(`network create ${LONG} --tag production --tag second-region`);
  red(`subnet create ${LONG} --network ${LONG} --cidr 10.7.0.0/24`);
  red(`port create ${LONG} --network ${LONG} --security-group web --tag production`);
  red("router create edge --gateway network=outside");
  red(`router add-interface edge --subnet ${LONG}`);
  red(`floating-ip create outside --port ${LONG}`);
  red("subnet-pool create private --prefix 10.64.0.0/12 --default-prefix-length 24");
  // A port whose host is not there, one that waits for its machine, and one that drops.
  red("port create lost --network demo");
  admin(`port set ${idOf("port", "lost")} --host no-such-host`);
  red("port set red-a2 --security-group web");
  red("port unset red-a2 --security-group default");
  const refused = () => speak("red-a1", "10.0.1.12");
  // Until the rules are everywhere an answer may come; afterwards ping ends with 1.
  for (let end = Date.now() + 30_000; ; ) {
    try {
      refused();
    } catch {
      return;
    }
    if (Date.now() > end) throw new Error("red-a2 still answers");
  }
}

function remove() {
  quietly(red, "port set red-a2 --security-group default");
  for (const address of red("floating-ip list -o value -c floating_ip_address").split("\n").filter(Boolean)) {
    red(`floating-ip delete ${address}`);
  }
  quietly(red, "router unset edge --gateway");
  quietly(red, `router remove-interface edge --subnet ${LONG}`);
  for (const line of ["router delete edge", `port delete ${LONG}`, "port delete lost", `subnet delete ${LONG}`,
    `network delete ${LONG}`, "subnet-pool delete private"]) quietly(red, line);
  try {
    red("port unset red-a2 --security-group web");
  } catch (error) {
    if (error.status !== 2 && error.status !== 3) throw error;
  }
  quietly(red, "security-group delete web");
  quietly(admin, "subnet delete outside");
  quietly(admin, "network delete outside");
}

const chromium = process.env.MIZAR_CHROMIUM ?? "/usr/bin/chromium";
const story = new Story({ base, passwords, hosts: [], out: folder, chromium }, () => {});
mkdirSync(folder, { recursive: true });

async function shoot(page, name) {
  await page.evaluate(() => scrollTo(0, 0));
  const { width, height } = page.viewportSize();
  const tall = await page.evaluate(() => document.documentElement.scrollHeight);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  if (wide > width) throw new Error(`${name} is ${wide - width} px wider than its window`);
  const file = join(folder, `${name}.png`);
  const clip = { x: 0, y: 0, width, height: Math.min(Math.max(tall, height), 1100) };
  await page.screenshot({ path: file, clip, fullPage: true, animations: "disabled" });
  try {
    execFileSync("pngquant", ["--force", "--ext", ".png", "--strip", "--skip-if-larger", "--quality", "60-95", file]);
  } catch (error) {
    // 98 and 99: it would not get smaller, or not be good enough.
    if (error.code === "ENOENT") console.error("pngquant is not there: pictures stay larger");
    else if (![98, 99].includes(error.status)) throw error;
  }
  console.log(`${name}.png ${Math.round(statSync(file).size / 1024)} kB`);
}

async function visit(page, path, name) {
  await page.goto(base + path);
  await page.getByRole("heading", { level: 1 }).waitFor();
  await page.waitForLoadState("load");
  if (name) await shoot(page, name);
}

// What is refused while the chart is looked at is drawn.
async function drawn(page, path, name) {
  await visit(page, path);
  await page.locator("#age").filter({ hasText: "As of" }).waitFor();
  for (let round = 0; round < 8; round += 1) {
    try {
      speak("red-a1", "10.0.1.12", 2 + ((round * 3) % 7));
    } catch {
      // It is refused, as it shall be.
    }
  }
  await page.locator(".chart tbody tr").first().waitFor();
  await shoot(page, name);
}

async function tenant(page) {
  await visit(page, "/login", "sign-in");
  await story.signIn(page, "red");
  await visit(page, "/", "overview");
  await visit(page, "/wizard");
  await page.getByLabel("Name of the network").fill("shop");
  await page.getByLabel("CIDR of the subnet").fill("10.0.1.0/20");
  await page.getByText("overlaps 2 of").waitFor();
  await shoot(page, "wizard");
  await visit(page, "/networks", "networks");
  await visit(page, `/networks/${idOf("network", LONG)}`, "network");
  await visit(page, "/subnets", "subnets");
  await visit(page, "/ports?sort=name", "ports");
  await visit(page, `/ports/${idOf("port", "red-a2")}`, "port");
  await visit(page, `/ports/${idOf("port", "lost")}`, "port-in-error");
  await drawn(page, `/ports/${idOf("port", "red-a2")}/drops`, "drops");
  await visit(page, `/ports/${idOf("port", "red-a2")}/reach`, "reach");
  const from = `/ports/${idOf("port", "red-a1")}/trace`;
  await visit(page, `${from}?destination=10.0.1.12&protocol=tcp&destination_port=22`, "trace");
  await visit(page, "/security-groups", "security-groups");
  await visit(page, `/security-groups/${idOf("security-group", "web")}`, "security-group");
  await visit(page, `/security-group-rules/new?security_group_id=${idOf("security-group", "web")}`, "rule-form");
  await visit(page, "/routers", "routers");
  await visit(page, `/routers/${idOf("router", "edge")}`, "router");
  await visit(page, "/floating-ips", "floating-ips");
  await visit(page, "/subnet-pools", "subnet-pools");
  await visit(page, "/search?q=10.0.1", "search");
  await visit(page, "/map");
  await page.locator(".map .node").nth(2).hover();
  await shoot(page, "map");
  await visit(page, `/networks/delete?id=${idOf("network", "demo")}`, "delete");
  speak("red-a1", "10.0.1.13");
  await visit(page, `/ports/${idOf("port", "red-a3")}/flows`, "flows");
  await visit(page, `/ports/${idOf("port", "red-a3")}/flow-log`, "flow-log");
  const rules = JSON.parse(red("security-group-rule list -o json"));
  const open = rules.find((rule) => rule.direction === "ingress" && rule.remote_group_id && rule.ethertype === "IPv4" && !rule.protocol);
  await visit(page, `/security-group-rules/delete?id=${open.id}`, "delete-rule");
  await visit(page, "/preferences", "preferences");
}

async function operator(page) {
  await story.signIn(page, "admin");
  await visit(page, "/", "operator-overview");
  await visit(page, "/ports", "empty");
  await visit(page, "/hosts", "hosts");
  const host = admin("host show host1 -o value -c id");
  await visit(page, `/hosts/${host}`, "host");
  await drawn(page, `/hosts/${host}/drops`, "host-drops");
  await visit(page, "/roles", "roles");
  await visit(page, `/networks/${idOf("network", "demo")}`, "holders");
  await visit(page, "/audit", "audit");
}

try {
  remove();
  prepare();
  const size = { width: 1100, height: 640 };
  await tenant(await story.open({ viewport: size }));
  await operator(await story.open({ viewport: size }));
  const dark = await story.open({ viewport: size, colorScheme: "dark" });
  await story.signIn(dark, "red");
  await visit(dark, `/ports/${idOf("port", "red-a2")}`, "port-dark");
  story.finish();
} finally {
  await story.close();
  remove();
}
