// Screenshots for a person to look at: node e2e/shots.mjs ADDRESS-WITH-TOKEN FOLDER NAME
import { open, overflow } from "./browser.mjs";

const [address, folder, name] = process.argv.slice(2);
const SETTLE_MS = 1500;

/** What is looked at besides the page as it opens: how to get there, and back. */
const PLACES = {
  system: [(page) => page.getByRole("tab", { name: "System" }).click(), null],
  control: [(page) => page.getByRole("tab", { name: "Control" }).click({ timeout: 2000 }).catch(() => undefined), null],
  checkpoints: [(page) => page.getByRole("tab", { name: "Checkpoints" }).click({ timeout: 2000 }).catch(() => undefined), null],
  pauses: [(page) => page.getByRole("button", { name: "Pause at a later moment" }).click({ timeout: 2000 }).catch(() => undefined), "Escape"],
  overhead: [(page) => page.getByRole("tab", { name: "Overhead" }).click(), null],
  sessions: [(page) => page.keyboard.press("s"), "Escape"],
  keys: [(page) => page.keyboard.press("?"), "Escape"],
};

for (const theme of ["light", "dark"]) {
  for (const width of [360, 1400, 2560]) {
    const { browser, page, wrong } = await open(address, { width, theme });
    const shot = async (place) => {
      await page.waitForTimeout(SETTLE_MS);
      await page.screenshot({ path: `${folder}/${name}-${theme}-${width}${place}.png`, fullPage: true });
      const wider = await overflow(page);
      if (wider) wrong.push(`wider by ${wider} px at ${place || "the page"}`);
    };
    await shot("");
    for (const [place, [go, back]] of width < 2000 ? Object.entries(PLACES) : []) {
      await go(page);
      await shot(`-${place}`);
      if (back) await page.keyboard.press(back);
      else await page.mouse.click(2, 400);
    }
    console.log(`${name} ${theme} ${width}:`, wrong.join("; ") || "nothing wrong");
    await browser.close();
  }
}
