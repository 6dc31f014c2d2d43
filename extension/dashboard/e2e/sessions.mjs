// What a person does with sessions as files: node e2e/sessions.mjs ADDRESS-WITH-TOKEN [FOLDER]
// The newest session must have ended, with a checkpoint that can be resumed.
import { readFile } from "node:fs/promises";
import { open, overflow } from "./browser.mjs";

const [address, folder] = process.argv.slice(2);
const { browser, page, wrong } = await open(address, { width: 1400, height: 900 });
await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
const until = async (what, test) => {
  for (const end = Date.now() + 15_000; Date.now() < end; ) {
    if (await test().catch(() => false)) return true;
    await page.waitForTimeout(40);
  }
  wrong.push(`not within 15 s: ${what}`);
  return false;
};
const says = (selector, pattern) => async () => pattern.test(await page.locator(selector).first().innerText());
const shot = async (name) => {
  for (const width of folder ? [1400, 360] : []) {
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width, height: 900 });
      await page.waitForTimeout(300);
      await page.screenshot({ path: `${folder}/sessions-${name}-${colorScheme}-${width}.png` });
      const wider = await overflow(page);
      if (wider > 0) wrong.push(`${name}: wider than the window by ${wider} px`);
    }
  }
  if (folder) await page.setViewportSize({ width: 1400, height: 900 });
};
const clipboard = () => page.evaluate(() => navigator.clipboard.readText());
const button = (name, within = page) => within.getByRole("button", { name });
const disk = page.getByRole("table", { name: "Sessions on the disk" });

await until("it has ended", says(".state strong", /ended|stopped/));
await page.locator("canvas").first().waitFor();
const losses = () => page.locator("main .head").first().innerText();
await until("its losses", async () => /training\s+[\d.]+/.test(await losses()));
const lossesBefore = await losses();
const shown = await page.locator(".state .figures").innerText();

// The command that resumes.
await page.getByRole("tab", { name: "Checkpoints" }).click();
await button("Copy resume command").first().click();
await until("it says that it copied", async () => (await button("Copied").count()) === 1);
const [, id, run, step] = (await clipboard()).match(/^onthefly run --resume (\w+)@([\w.-]+):(\d+)$/) ?? [];
if (!id || !run || !step) wrong.push(`no resume command: ${await clipboard()}`);
await shot("checkpoints");

// Into a file.
await button("Export or reset the session").click();
await page.getByLabel("the script's files").uncheck();
await shot("export");
const downloaded = page.waitForEvent("download");
await button("Export", page.locator(".panel")).click();
const file = await (await downloaded).path();
if ((await readFile(file)).subarray(0, 2).toString() !== "PK") wrong.push("what was exported is no bundle");
await until("where it is", says(".panel .said", new RegExp(`${id}.otf is saved`)));
await button("Copy reset command").click();
if ((await clipboard()) !== `onthefly reset ${id}`) wrong.push(`no reset command: ${await clipboard()}`);
await page.keyboard.press("Escape");

// What it takes, kept and deleted.
await page.keyboard.press("s");
await button("On the disk").click();
await until("all of them", says(".total", /[\d.]+ (k|M)B\s+of 10.7 GB.*free/s));
const row = disk.getByRole("row").filter({ hasText: id });
await until("its bytes", async () => /[\d.]+ (k|M)B.*checkpoints/s.test(await row.innerText()));
await button(/^Pin/, row).click();
await until("pinned", async () => /pinned: stays/.test(await row.innerText()));
await shot("disk");
await button(/^Unpin/, row).click();
await until("no longer pinned", async () => (await button(/^Pin/, row).count()) === 1);
await button("Delete", row).click();
await shot("delete");
await button("No", row).click();
if ((await row.count()) !== 1) wrong.push("deleted without a yes");
await button("Delete", row).click();
await button("Delete for good", row).click();
await until("it is gone", async () => (await row.count()) === 0 && /is deleted/.test(await page.locator("dialog .said").innerText()));

// And back.
const input = page.getByLabel("A bundle to import");
await input.setInputFiles({ name: "broken.otf", mimeType: "application/zip", buffer: Buffer.from("PK no bundle") });
await until("why it is not taken", async () => (await page.locator("dialog .said.wrong").innerText()).length > 20);
await shot("refused");
wrong.splice(0, wrong.length, ...wrong.filter((what) => !/status of 409/.test(what))); // the refusal that was asked for
await button("Dismiss", page.locator("dialog")).click();
const chooser = page.waitForEvent("filechooser");
await button("Import…", page.locator("dialog")).click();
await (await chooser).setFiles({ name: `${id}.otf`, mimeType: "application/zip", buffer: await readFile(file) });
await until("it is shown", async () => (await page.locator("dialog").count()) === 0 && (await says(".state strong", /imported/)()));
await until("its step and epoch", async () => (await page.locator(".state .figures").innerText()) === shown);
await until("its losses", async () => (await losses()) === lossesBefore);
await until("its worst samples", async () => (await page.locator("table[aria-label^='The worst samples'] tbody tr").count()) > 5);
await page.getByRole("tab", { name: "Checkpoints" }).click();
await button("Copy resume command").first().click();
await until("the command with the script to give", async () => (await clipboard()).startsWith(`onthefly run --resume ${id}@${run}:${step} -- python `));
await shot("imported");

await browser.close();
for (const fault of wrong) console.log(`wrong: ${fault}`);
console.log(wrong.length ? "failed" : "as it should be");
process.exit(wrong.length ? 1 : 0);
