// One look at a running script, as a person would: the curve moves, is zoomed and saved, tabs and dialogs open and close,
// pause holds the step count, resume lets it go.
// node e2e/live.mjs ADDRESS-WITH-TOKEN [FOLDER-FOR-SCREENSHOTS]; exit code 1 and a line for each thing that is wrong.
import { mkdirSync, readFileSync } from "node:fs";
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

/** Save what a button offers; its name and content. */
const saved = async (page, button) => {
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: button, exact: true }).click()]);
  return [download.suggestedFilename(), readFileSync(await download.path())];
};

/** Another metric, by time, zoomed, saved: while the script runs on. */
async function charts(page) {
  await page.getByLabel("Metric").selectOption("step_ms");
  await page.getByRole("button", { name: "time", exact: true }).click();
  const card = page.locator("section.card").first();
  await until("the chosen metric is shown", async () => (await card.locator("h2").innerText()).startsWith("Step"));
  const before = await curve(page);
  await until("its curve moves", async () => (await curve(page)) !== before);
  const box = await page.locator(".u-over").first().boundingBox();
  await page.mouse.move(box.x + box.width / 4, box.y + 50);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width / 2, box.y + 50, { steps: 4 });
  await page.mouse.up();
  const whole = page.getByRole("button", { name: "whole" });
  await until("it is zoomed", () => whole.isVisible());
  await until("what is under the pointer is said", async () => / ms/.test(await page.locator(".readout").first().innerText()));
  const [first, at] = [await curve(page), await step(page)];
  await until("more steps", async () => (await step(page)) > at + 20);
  check((await curve(page)) === first, "a zoomed curve stays where it is while the script runs on");
  await whole.click();
  await until("the whole curve is back", async () => (await curve(page)) !== first);

  const [table, rows] = await saved(page, "CSV");
  check(/^[0-9a-z]{8}-step_ms\.csv$/.test(table), `the table is called ${table}`);
  check(/^step,epoch,time,value,low,high\r\n\d+,\d+,\d{4}-\d\d-\d\dT[\d:.]+Z,[\d.e-]+,/.test(rows.toString()), "the table holds the values");
  const [picture, bytes] = await saved(page, "PNG");
  check(/^[0-9a-z]{8}-step_ms\.png$/.test(picture) && bytes.subarray(1, 4).toString() === "PNG" && bytes.length > 5000, "the chart is saved as a picture");
  await page.getByRole("button", { name: "step", exact: true }).click();
  await page.getByLabel("Metric").selectOption("loss");
}

/** By mean loss: the same twenty rows, with other columns, that go on as the script does. */
async function worst(page) {
  const card = page.locator("section[aria-label='Worst samples']");
  await page.getByLabel("Order of the samples").selectOption("loss_mean");
  await until("samples by mean loss", async () => (await card.locator("th").allInnerTexts()).join(" ").trim() === "index seen last loss mean loss" && (await card.locator("tbody tr").count()) === 20);
  const column = (await card.locator("th").allInnerTexts()).indexOf("seen"); // not by a number: boxes stand before it
  const seen = () => card.locator("tbody tr").first().locator("td").nth(column).innerText();
  check(Number(await seen()) > 0, `the first was seen ${await seen()} times`);
  // A script that is slow is not the page's fault: the page has its twenty seconds once each sample was trained on.
  const [before, at] = [await seen(), await step(page)];
  await until("two epochs more", async () => (await step(page)) > at + 90, 60);
  await until(`they are seen again, and not ${before} times`, async () => (await seen()) !== before, 60);
  await card.locator("tbody tr").nth(3).click();
  await until("how one was learned", async () => /^Sample \d+ of the dataset: seen \d+ times in \d+ epochs; loss/.test(await card.locator(".detail").innerText()));
  await shot(page, "dynamics");
  await page.getByLabel("Order of the samples").selectOption("loss");
}

async function tabs(page) {
  await page.getByRole("tab", { name: "System" }).click();
  await until("what the hub is", async () => /DuckDB/.test(await page.locator("#tab").innerText()));
  await until("what the script uses", async () => /processor/.test(await page.locator("#tab").innerText()));
  await shot(page, "system");
  await page.keyboard.press("ArrowRight");
  await until("what watching costs", async () => /At least/.test(await page.locator("#tab").innerText()));
  await until("the cost's curve", () => page.locator("#tab canvas").isVisible());
  await shot(page, "overhead");
  await page.getByRole("tab", { name: "Logs" }).click();
  const written = page.locator(".written p");
  await until("what the script wrote", async () => /epoch \d+ .*accuracy/.test(await written.last().innerText()));
  const last = await written.last().innerText();
  await until("new lines are followed", async () => (await written.last().innerText()) !== last);
  await page.getByLabel("Find in the log").fill("EPOCH 0 ");
  await until("the line that was looked for", async () => (await written.count()) === 1 && (await written.locator("mark").count()) === 1);
  await page.getByLabel("Find in the log").fill("");
}

/** The list of sessions: the focus stays in it, and goes back to where it came from. */
async function sessions(page) {
  const title = page.locator("h1 button");
  await title.click();
  const inside = () => page.evaluate(() => document.activeElement?.closest("dialog") !== null);
  for (let press = 0; press < 6; press++) {
    check(await inside(), "the focus stays in the list of sessions");
    await page.keyboard.press(press % 3 ? "Tab" : "Shift+Tab");
  }
  check((await page.getByRole("option").count()) >= 2, "the newest, and each session");
  await shot(page, "sessions");
  await page.keyboard.press("Escape");
  await until("the focus goes back", () => title.evaluate((button) => button === document.activeElement), 2);
}

let browser = null;
for (const theme of ["light", "dark"]) {
  const opened = await open(address, { theme, beside: browser });
  const { page, wrong } = opened;
  browser = opened.browser;
  await until("the script runs", async () => (await state(page)) === "running");
  check(!page.url().includes("token"), "the token stays in the address");

  const [first, before] = [await curve(page), await step(page)];
  await until("the curve moves", async () => (await curve(page)) !== first);
  await until("the step count moves", async () => (await step(page)) > before);
  await until("twenty worst samples", async () => (await page.locator("tbody tr").count()) === 20);
  await until("the histogram", async () => (await page.locator(".histogram rect").count()) > 10);
  await shot(page, `live-${theme}`);
  if (theme === "light") {
    await charts(page);
    await worst(page);
    await tabs(page);
    await sessions(page);
  }

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
  check(await page.locator("dialog").isVisible(), "? shows the keys");
  await page.keyboard.press("Escape");
  await page.locator("body").click({ position: { x: 2, y: 500 } });
  await page.keyboard.press(" ");
  await until("it runs again", async () => (await state(page)) === "running" && (await step(page)) > held);
  faults.push(...wrong.map((what) => `${theme}: ${what}`));
  await page.context().close();
}

const stranger = await open(address.split("#")[0], { beside: browser });
await until("a page without token says so", async () => (await stranger.page.locator("h1").innerText()).includes("not logged in"));
await shot(stranger.page, "denied");
await browser.close();

for (const fault of faults) console.log(`wrong: ${fault}`);
console.log(faults.length ? "failed" : "as it should be");
process.exit(faults.length ? 1 : 0);
