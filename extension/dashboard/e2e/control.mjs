// What a person does to a script that trains, and that the script did it: node e2e/control.mjs ADDRESS-WITH-TOKEN [FOLDER]
// The script must train with an optimizer (examples/digits.py does), and go on for a minute.
import { open } from "./browser.mjs";

const [address, folder] = process.argv.slice(2);
const { browser, page, wrong } = await open(address, { width: 1280, height: 800 });
const until = async (what, test) => {
  for (const end = Date.now() + 30_000; Date.now() < end; ) {
    if (await test().catch(() => false)) return true;
    await page.waitForTimeout(40);
  }
  wrong.push(`not within 30 s: ${what}`);
  return false;
};
const state = () => page.locator(".state strong").innerText();
const step = async () => Number((await page.locator(".state .figures").innerText()).replaceAll(",", "").match(/step (\d+)/)?.[1]);
const says = (selector, pattern) => async () => pattern.test(await page.locator(selector).first().innerText());
const shot = async (name) => { if (folder) await page.screenshot({ path: `${folder}/control-${name}.png`, fullPage: true }); };

await until("it runs, or is paused", async () => ["running", "paused"].includes(await state()));
if ((await state()) === "running") await page.keyboard.press(" ");
await until("paused, and since when", says(".why", /(ago|just now).*by/));
// Records come in blocks: the count is the script's own once it has come to rest.
let held = -1;
await until("the step count rests", async () => {
  const seen = held;
  held = await step();
  await page.waitForTimeout(400);
  return seen === held;
});
await page.keyboard.press(".");
await until("one step more", async () => (await state()) === "paused" && (await step()) === held + 1);

await page.getByRole("tab", { name: "Control" }).click();
const lr = page.getByLabel(/^lr of .*group 0$/);
const before = await lr.inputValue();
await lr.fill("-1");
await lr.press("Enter");
await until("a refusal beside the table", says("#tab .said.wrong", /refused: .*negative/));
await lr.fill("3.5e-4");
await lr.press("Enter");
await until("what was changed, from what to what", says("#tab", new RegExp(`lr ${before} → 3.5e-4`)));
await until("the value that the script has now", async () => (await lr.inputValue()) === "3.5e-4");
await page.getByRole("button", { name: "norm", exact: true }).click();
await page.getByLabel("Largest norm").fill("2");
await page.getByRole("button", { name: "Apply" }).click();
await until("gradients are clipped", says("#tab", /now by norm 2/));
await page.getByLabel("Freeze").first().fill("no-such-*");
await page.getByLabel("Freeze").first().press("Enter");
await until("why nothing was frozen", says("#tab", /no trained parameter is called/));
await shot("tab");

await page.getByRole("button", { name: "Pause at a later moment" }).click();
await page.getByLabel("Pause at step").fill(String(held + 4));
await page.keyboard.press("Enter");
await until("the planned pause, and who set it", says("[aria-label='Planned pauses']", new RegExp(`step ${held + 4}\\s*dashboard`)));
await shot("menu");
await page.keyboard.press("Escape");
await page.locator("body").click({ position: { x: 2, y: 700 } });
await page.keyboard.press(" ");
await until("it holds at the planned step", async () => (await state()) === "paused" && (await step()) === held + 4);

await page.getByRole("tab", { name: "Journal" }).click();
await until("the journal has both changes", says("#tab", new RegExp(`clipping off → norm 2[^]*lr ${before} → 3.5e-4`)));
await page.getByRole("button", { name: String(held + 1), exact: true }).first().click();
await shot("journal");
await page.locator("body").click({ position: { x: 2, y: 700 } });
await page.keyboard.press(" ");
await until("it goes on", async () => (await state()) === "running");
await browser.close();
for (const fault of wrong) console.log(`wrong: ${fault}`);
console.log(wrong.length ? "failed" : "as it should be");
process.exit(wrong.length ? 1 : 0);
