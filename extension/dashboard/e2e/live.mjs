// One look at a running script, as a person would: the curve moves, pause holds the step count, resume lets it go.
// node e2e/live.mjs ADDRESS-WITH-TOKEN [FOLDER-FOR-SCREENSHOTS]; exit code 1 and a line for each thing that is wrong.
import { mkdirSync } from "node:fs";
import { open, overflow } from "./browser.mjs";

const [address, folder] = process.argv.slice(2);
const faults = [];
const check = (good, what) => good || faults.push(what);
if (folder) mkdirSync(folder, { recursive: true });

const step = async (page) => Number(/step ([\d,]+)/.exec(await page.locator(".state").innerText())?.[1].replace(/,/g, ""));
const state = (page) => page.locator(".state strong").innerText();
const until = async (what, test, seconds = 20) => {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; ) {
    if (await test()) return;
    await new Promise((resume) => setTimeout(resume, 50));
  }
  faults.push(`not within ${seconds} s: ${what}`);
};
/** The curve as pixels, to see whether it moves. */
const curve = (page) => page.evaluate(() => document.querySelector(".plot canvas")?.toDataURL());
const shot = (page, name) => (folder ? page.screenshot({ path: `${folder}/${name}.png`, fullPage: true }) : null);

for (const theme of ["light", "dark"]) {
  const { browser, page, wrong } = await open(address, { theme });
  await until("the script runs", async () => (await state(page)) === "running");
  check(!page.url().includes("token"), "the token stays in the address");

  const [first, before] = [await curve(page), await step(page)];
  await until("the curve moves", async () => (await curve(page)) !== first);
  await until("the step count moves", async () => (await step(page)) > before);
  await until("twenty worst samples", async () => (await page.locator("tbody tr").count()) === 20);
  await until("the histogram", async () => (await page.locator(".histogram rect").count()) > 10);
  await shot(page, `live-${theme}`);

  await page.locator("button.primary").click();
  await until("it is paused", async () => (await state(page)) === "paused");
  const held = await step(page);
  await page.waitForTimeout(700);
  check((await step(page)) === held, "the step count moves while paused");
  await shot(page, `paused-${theme}`);
  for (const width of [360, 1400]) {
    await page.setViewportSize({ width, height: 900 });
    check((await overflow(page)) === 0, `something is wider than ${width} px`);
    await shot(page, `paused-${theme}-${width}`);
  }
  await page.keyboard.press("?");
  check(await page.locator("[role=dialog]").isVisible(), "? shows the keys");
  await page.keyboard.press("Escape");
  await page.locator("body").click({ position: { x: 2, y: 500 } });
  await page.keyboard.press(" ");
  await until("it runs again", async () => (await state(page)) === "running" && (await step(page)) > held);
  faults.push(...wrong.map((what) => `${theme}: ${what}`));
  await browser.close();
}

const stranger = await open(address.split("#")[0]);
await until("a page without token says so", async () => (await stranger.page.locator("h1").innerText()).includes("not logged in"));
await shot(stranger.page, "denied");
await stranger.browser.close();

for (const fault of faults) console.log(`wrong: ${fault}`);
console.log(faults.length ? "failed" : "as it should be");
process.exit(faults.length ? 1 : 0);
