// The output of a notebook in a page of another origin: the frame logs in with its pass, once, shows the kernel's session
// and commands it. node e2e/notebook.mjs PAGE HUB [FOLDER-FOR-SCREENSHOTS]
// Reads a line from standard input for each fresh output that the page holds. Exit code 1 and a line for each fault.
import { mkdirSync } from "node:fs";
import { createInterface } from "node:readline";
import { open } from "./browser.mjs";

const [address, hub, folder] = process.argv.slice(2);
const faults = [];
const check = (good, what) => good || faults.push(what);
if (folder) mkdirSync(folder, { recursive: true });
const until = async (what, test, seconds = 20) => {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; ) {
    if (await test().catch(() => false)) return;
    await new Promise((resume) => setTimeout(resume, 50));
  }
  faults.push(`not within ${seconds} s: ${what}`);
};

async function look(theme) {
  const { browser, page, wrong } = await open(address, { width: 940, height: 760, theme, framed: hub });
  const frame = page.frameLocator("iframe");
  const inside = () => page.frames()[1];
  const state = () => frame.locator(".state strong").innerText();
  const curve = () => inside().evaluate(() => document.querySelector(".plot canvas")?.toDataURL());
  await until("the kernel's session", async () => (await state()) === "running");
  check((await frame.locator("h1").innerText()).includes("my notes.ipynb"), "another session than the kernel's");
  check(inside().url() === `${hub}/`, `the frame's address is ${inside().url()}`);
  await until("a curve", async () => (await curve())?.length > 2000);
  const first = await curve();
  await until("the curve moves", async () => (await curve()) !== first);
  await frame.locator("button.primary").click();
  await until("it is paused", async () => (await state()) === "paused");
  if (folder) await page.screenshot({ path: `${folder}/notebook-${theme}.png` });
  await frame.locator("button.primary").click();
  await until("it runs again", async () => (await state()) === "running");
  const wider = await inside().evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  check(wider <= 0, `the page is ${wider} px wider than the frame`);

  await page.reload();
  await until("a used pass says how to go on", async () => (await inside().locator("main").innerText()).includes("%onthefly"));
  check((await inside().locator("button, a, form, script").count()) === 0, "a used pass shows something to act with");
  if (folder) await page.screenshot({ path: `${folder}/notebook-spent-${theme}.png` });
  faults.push(...wrong.map((what) => `${theme}: ${what}`));

  wrong.length = 0;
  await page.evaluate((source) => { document.querySelector("iframe").src = source; }, `${hub}/`);
  await until("the page itself stands in no frame", () => Promise.resolve(wrong.some((what) => what.includes("frame-ancestors"))), 5);
  await browser.close();
}

const themes = ["light", "dark"];
for await (const _ of createInterface({ input: process.stdin })) {
  await look(themes.shift());
  console.log("looked");
  if (!themes.length) break;
}
for (const fault of faults) console.log(`wrong: ${fault}`);
process.exit(faults.length ? 1 : 0);
