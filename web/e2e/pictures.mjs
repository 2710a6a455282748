// Makes the pictures of docs/ from a running sandbox (`./dev up`): node pictures.mjs DASHBOARD USER PASSWORD FOLDER
import { Story } from "./story.mjs";

const [base, user, password, folder] = process.argv.slice(2);
if (!folder) {
  console.error("usage: node pictures.mjs DASHBOARD USER PASSWORD FOLDER");
  process.exit(64);
}
const chromium = process.env.MIZAR_CHROMIUM ?? "/usr/bin/chromium";
const story = new Story({ base, passwords: { [user]: password }, hosts: [], out: folder, chromium }, () => {});
const page = await story.open({ viewport: { width: 1100, height: 640 } });
const picture = (name) => page.screenshot({ path: `${folder}/${name}.png` });

try {
  await page.goto(`${base}/login`);
  await picture("sign-in");
  await story.signIn(page, user);
  await picture("overview");
  await page.goto(`${base}/wizard`);
  await page.getByLabel("Name of the network").fill("shop");
  await page.getByLabel("CIDR of the subnet").fill("10.0.1.0/20");
  await page.getByText("overlaps 2 of").waitFor();
  await picture("wizard");
  await page.goto(`${base}/ports?sort=name`);
  await page.getByText("As of").waitFor();
  await picture("ports");
  await page.getByRole("link", { name: `${user}-a1`, exact: true }).click();
  await page.getByText("As of").waitFor();
  await picture("port");
  await page.goto(`${base}/map`);
  await page.locator(".map .node").nth(2).hover();
  await picture("map");
  await page.goto(`${base}/networks`);
  await page.getByRole("link", { name: "demo", exact: true }).click();
  await page.getByRole("link", { name: "Delete…" }).click();
  await page.getByText("This is in the way").waitFor();
  await picture("delete");
} finally {
  await story.close();
}
