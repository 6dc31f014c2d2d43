// A page that is open before training starts: it fills with each session in turn, and nothing is wrong.
// node e2e/fills.mjs ADDRESS-WITH-TOKEN FOLDER NAME...; prints "open", then ends with 1 and a line for each fault.
import { mkdirSync } from "node:fs";
import { open, overflow } from "./browser.mjs";

const [address, folder, ...names] = process.argv.slice(2);
const faults = [];
mkdirSync(folder, { recursive: true });

const until = async (what, test, seconds = 110) => {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; ) {
    if (await test()) return true;
    await new Promise((resume) => setTimeout(resume, 50));
  }
  faults.push(`not within ${seconds} s: ${what}`);
  return false;
};

/** How many pixels of the first chart are drawn. */
const drawn = (page) =>
  page.evaluate(() => {
    const canvas = document.querySelector(".plot canvas");
    if (!canvas) return 0;
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let count = 0;
    for (let place = 3; place < data.length; place += 4) count += data[place] > 0;
    return count;
  });

const { browser, page, wrong } = await open(address);
console.log("open");
for (const name of names) {
  const shown = await until(`the session ${name} is shown`, async () => (await page.locator("h1").innerText()).split(/[\s/]+/).includes(name));
  if (!shown) break;
  await until(`${name} has ended`, async () => (await page.locator(".state strong").innerText()) === "ended");
  await until(`${name}: the samples of an epoch are counted`, async () => /3,072 samples/.test(await page.locator("body").innerText()));
  const metrics = await page.getByLabel("Metric").locator("option").evaluateAll((options) => options.map((one) => one.value));
  if (!metrics.includes("val_loss")) faults.push(`${name}: val_loss is not among ${metrics}`);
  await page.getByLabel("Metric").selectOption("loss");
  await until(`${name}: a curve is drawn`, async () => (await drawn(page)) > 2000);
  await page.screenshot({ path: `${folder}/fills-${name}.png`, fullPage: true });
  await page.getByLabel("Metric").selectOption("val_loss");
  await until(`${name}: the validation loss is drawn`, async () => (await drawn(page)) > 500);
}
if ((await overflow(page)) > 0) faults.push("something is wider than the window");
await browser.close();
for (const fault of [...faults, ...wrong]) console.log(fault);
process.exit(faults.length + wrong.length ? 1 : 0);
