// Hostile texts, as a page shows them: node e2e/xss.mjs ADDRESS-WITH-TOKEN
// Reads a marker a line from standard input; for each it waits until the page shows it as text, works every control,
// and answers "shown MARKER". At the end: exit code 1 and a line for each thing that is wrong.
import { createInterface } from "node:readline";
import { open } from "./browser.mjs";

const [address] = process.argv.slice(2);
const { browser, page, wrong } = await open(new URL("/", address).href); // without token: nothing happens yet
await page.goto("about:blank");
page.on("dialog", (dialog) => {
  wrong.push(`dialog: ${dialog.message()}`);
  void dialog.dismiss();
});
await page.addInitScript(() => {
  document.addEventListener("securitypolicyviolation", (event) => console.error(`CSP: ${event.violatedDirective}`));
});
page.on("popup", (popup) => wrong.push(`popup: ${popup.url()}`));
page.on("framenavigated", (frame) => {
  if (frame !== page.mainFrame()) wrong.push(`frame: ${frame.url()}`);
  else if (new URL(frame.url()).origin !== new URL(address).origin) wrong.push(`left for ${frame.url()}`);
});
await page.goto(address);

const text = () => page.evaluate(() => {
  const titles = [...document.querySelectorAll("[title], [aria-label]")].map((e) => `${e.title} ${e.ariaLabel}`);
  return [document.title, document.body.innerText, ...titles].join("\n");
});
const shows = async (marker) => {
  for (const end = Date.now() + 20_000; Date.now() < end; ) {
    if ((await text()).includes(marker)) return true;
    await page.waitForTimeout(30);
  }
  return false;
};
/** Open what opens: cards, tabs, menus. */
const work = async () => {
  for (const key of ["s", "Escape", "?", "Escape"]) await page.keyboard.press(key);
  for (const control of await page.locator("button:enabled, [role=tab], summary").all()) {
    await control.click({ timeout: 500 }).catch(() => {}); // covered by what another one opened
    await page.keyboard.press("Escape");
  }
};

for await (const marker of createInterface({ input: process.stdin })) {
  if (!(await shows(marker))) wrong.push(`not shown as text: ${marker}`);
  await work();
  const strange = await page.evaluate(() => document.querySelectorAll("#app :is(script, iframe, object, embed, base, link, meta, form[action], img[src^=x], svg[onload], [onerror], [onclick], a[href^='javascript:'])").length);
  if (strange) wrong.push(`${strange} elements that no text should make, at ${marker}`);
  console.log(`shown ${marker}`);
}
await browser.close();
// A browser writes each refusal into the console (a map where nothing was scanned); the page shows its reason.
const faults = wrong.filter((what) => !what.includes("status of 409"));
for (const fault of faults) console.log(`wrong: ${fault}`);
process.exit(faults.length ? 1 : 0);
