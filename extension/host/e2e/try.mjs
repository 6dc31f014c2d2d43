import { Editor, sleep, until } from "./editor.mjs";
const { VSIX, FOLDER, SCRIPT, PYTHON, SHOTS } = process.env;
const editor = await Editor.start({ vsix: VSIX, trust: true, machine: { "onthefly.python": PYTHON } });
const { page } = editor;
try {
await editor.open(FOLDER);
await editor.file(SCRIPT);
const lens = page.locator(".codelens-decoration a", { hasText: "Run with OnTheFly" });
await lens.waitFor();
await editor.command("OnTheFly: Run with OnTheFly");
for (let i = 0; i < 4; i++) { await sleep(1000); console.log(i, await editor.notices(), (await page.locator(".notifications-toasts").first().innerHTML().catch((e) => e.message)).replace(/style="[^"]*"/g, "").slice(0, 1500)); }
await page.screenshot({ path: `${SHOTS}/try.png` });
} catch (e) { console.log(e.message); await page.screenshot({ path: `${SHOTS}/try2.png` }); }
await editor.stop(); process.exit();
