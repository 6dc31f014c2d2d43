// Screenshots for a person to look at: node e2e/shots.mjs ADDRESS-WITH-TOKEN FOLDER NAME
import { open, overflow } from "./browser.mjs";

const [address, folder, name] = process.argv.slice(2);
for (const theme of ["light", "dark"]) {
  for (const width of [360, 1400, 2560]) {
    const { browser, page, wrong } = await open(address, { width, theme });
    await page.waitForTimeout(1500);
    await page.screenshot({ path: `${folder}/${name}-${theme}-${width}.png`, fullPage: true });
    console.log(`${name} ${theme} ${width}: wider by ${await overflow(page)}`, wrong.join("; ") || "nothing wrong");
    await browser.close();
  }
}
