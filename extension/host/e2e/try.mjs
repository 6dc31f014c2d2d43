import { Editor, sleep, until } from "./editor.mjs";
const { VSIX, FOLDER, SCRIPT, PYTHON, SHOTS } = process.env;
const editor = await Editor.start({ vsix: VSIX, machine: { "onthefly.python": PYTHON } });
const { page } = editor;
page.on("console", (m) => { const t = m.text(); if (/onthefly/i.test(t) && !/spdlog|watchdog/.test(t)) console.log("CON", t.slice(0, 600)); });
try {
await editor.open(FOLDER);
await editor.file(SCRIPT);
const lens = page.locator(".codelens-decoration a", { hasText: "Run with OnTheFly" });
await lens.waitFor();
await lens.click();
for (let i = 0; i < 6; i++) { await sleep(1500); console.log(i, await editor.notices()); }
await page.screenshot({ path: `${SHOTS}/try.png` });
await editor.command("Notifications: Show Notifications").catch((e) => console.log(e.message.slice(0, 200)));
await sleep(500);
await page.screenshot({ path: `${SHOTS}/try2.png` });
} catch (e) { console.log(e.message); await page.screenshot({ path: `${SHOTS}/try2.png` }); }
await editor.stop(); process.exit();
