// What a person does with samples of a script that trains: node e2e/explore.mjs ADDRESS-WITH-TOKEN [FOLDER]
// The script must train on pictures with an index (examples/digits.py does), for a few epochs already, and go on.
import { readFile } from "node:fs/promises";
import { open, overflow } from "./browser.mjs";

const [address, folder] = process.argv.slice(2);
const { browser, page, wrong } = await open(address, { width: 1400, height: 900 });
const until = async (what, test) => {
  for (const end = Date.now() + 20_000; Date.now() < end; ) {
    if (await test().catch(() => false)) return true;
    await page.waitForTimeout(40);
  }
  wrong.push(`not within 20 s: ${what}`);
  return false;
};
const says = (selector, pattern) => async () => pattern.test(await page.locator(selector).first().innerText());
const shot = async (name) => {
  for (const width of folder ? [1400, 360] : []) {
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width, height: 900 });
      await page.waitForTimeout(250);
      const wider = await overflow(page);
      if (wider > 0) wrong.push(`${name}: wider than the window by ${wider} px`);
      await page.screenshot({ path: `${folder}/explore-${name}-${colorScheme}-${width}.png`, fullPage: true });
    }
  }
  if (folder) await page.setViewportSize({ width: 1400, height: 900 });
};
const tab = (name) => page.getByRole("tab", { name: new RegExp(`^${name}`) }).click();
const downloaded = async (act) => {
  const coming = page.waitForEvent("download");
  await act();
  return readFile(await (await coming).path(), "utf8");
};

// Before the pause: what is needed to see them.
await until("it runs", says(".state strong", /running/));
await tab("Review");
await until("the one that is suspected most, and why it cannot be seen", says(".stage", /Pause the script/));
await page.locator(".brand").click();
await page.keyboard.press(" ");
await until("it is paused", says(".state strong", /paused/));

// Review, by keys alone.
await until("its picture", async () => (await page.locator(".stage img").first().evaluate((image) => image.complete && image.naturalWidth)) === 8);
const sample = async () => (await page.locator(".facts-of h3").innerText()).match(/Sample ([\d,]+)/)?.[1];
const first = await sample();
await until("what speaks against it", says(".evidence", /led by .* on average; its class was given .* %/));
await until("its losses", async () => (await page.locator(".review .losses path").count()) === 2);
await shot("review");
await page.keyboard.press("w");
await until("the next one", async () => (await sample()) !== first);
const second = await sample();
await page.keyboard.press("f");
await until("the one after", async () => ![first, second].includes(await sample()));
await page.keyboard.press("u");
await until("three are reviewed", says(".review h2", /3 reviewed · 1 wrong/));
await page.keyboard.press("ArrowLeft");
await page.keyboard.press("0");
await until("one is taken back", says(".review h2", /2 reviewed/));
const list = JSON.parse(await downloaded(() => page.getByLabel("Export", { exact: true }).selectOption("json")));
if (String(list) !== first?.replace(",", "")) wrong.push(`the wrong ones are ${list}, not ${first}`);
const table = (await downloaded(() => page.getByLabel("Export", { exact: true }).selectOption("table"))).split("\r\n");
if (!table[0].includes("is_label_issue,label_quality,given_label,predicted_label")) wrong.push(`cleanlab's columns: ${table[0]}`);
if (table.length < 1000) wrong.push(`the whole ranking has ${table.length} lines`);

// The histogram: what is drawn around is looked at.
const bars = await page.locator(".histogram").boundingBox();
await page.mouse.move(bars.x + bars.width * 0.5, bars.y + 60);
await page.mouse.down();
await page.mouse.move(bars.x + bars.width * 0.75, bars.y + 60, { steps: 4 });
await page.mouse.move(bars.x + bars.width - 1, bars.y + 60, { steps: 4 });
await page.mouse.up();
await until("how many they are", says(".brushed", /^\d+ selected/));
const brushed = Number((await page.locator(".brushed").innerText()).match(/\d+/)[0]);
await page.getByRole("button", { name: "Look", exact: true }).click();
await until("these are shown", says(".meant", new RegExp(`^${brushed} sample`)));
await until("as pictures", async () => (await page.locator(".gallery img").count()) === Math.min(brushed, 24));
await shot("brushed");
const losses = (await page.locator(".tile-of strong").allInnerTexts()).map(Number);
if (losses.some((loss, at) => at && loss > losses[at - 1])) wrong.push(`the highest first: ${losses}`);

// The language, tags, and what is refused.
const select = page.getByLabel(/^Select/);
await select.fill("worst=30 !tag=label:wrong");
await select.press("Enter");
await until("thirty others", says(".meant", /^30 samples/));
await page.locator(".gallery").focus();
// All before the page is drawn again, as on a machine that is slow: the keys mean the sample that they have come to.
await page.locator(".gallery").evaluate((list) => {
  for (const key of ["ArrowRight", "x", "ArrowRight", "x"]) list.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
});
await until("two are chosen", says(".chosen-samples", /2 samples chosen/));
await page.getByLabel("Tag", { exact: true }).fill("blurred");
await page.keyboard.press("Enter");
await until("they are tagged", says(".explore", /put on 2 samples/));
await shot("samples");
await page.getByRole("button", { name: /^blurred/ }).click();
await until("and found by that", async () => (await says(".meant", /^2 samples/)()) && (await page.locator(".gallery .tag").allInnerTexts()).every((text) => text.includes("blurred")));
const indices = JSON.parse(await downloaded(() => page.getByLabel("Export", { exact: true }).selectOption("indices json")));
if (indices.length !== 2) wrong.push(`two indices: ${indices}`);
await select.fill("worst=");
await select.press("Enter");
await until("what is no selection", says(".explore .said.wrong", /is no term of a selection/));
await select.fill("loss=9999:");
await select.press("Enter");
await until("an empty selection says so", says(".explore", /No sample is meant by/));
await shot("empty");

// The map has nothing to show yet, and says what makes it.
await tab("Map");
await until("what is missing", says("#tab", /no embeddings/));
await shot("no-map");
await browser.close();
// What the hub refuses on purpose is written into the console by the browser.
const real = wrong.filter((what) => !/Failed to load resource.*(400|404|409)/.test(what));
for (const fault of real) console.log(`wrong: ${fault}`);
console.log(real.length ? "failed" : "as it should be");
process.exit(real.length ? 1 : 0);
