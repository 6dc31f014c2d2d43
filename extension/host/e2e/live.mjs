// What a person sees: install the vsix, open a folder, click the code lens, watch the curve move, pause from the status bar,
// reload the window. From the environment, besides what editor.mjs wants: VSIX, FOLDER (with SCRIPT in it), PYTHON, SHOTS.
import fs from "node:fs";
import { Editor, sleep, until } from "./editor.mjs";

const { VSIX, FOLDER, SCRIPT, PYTHON, SHOTS } = process.env;
const LIGHT = "Default Light Modern";
const DARK = "Default Dark Modern";

const started = Date.now();
const done = (what) => { console.log(`${((Date.now() - started) / 1000).toFixed(1)} s: ${what}`); };
function check(right, what) {
  if (!right) throw new Error(`wrong: ${what}`);
}

const wrong = [];
const editor = await Editor.start({ vsix: VSIX, machine: { "onthefly.python": PYTHON }, settings: { "workbench.colorTheme": LIGHT, "workbench.preferredLightColorTheme": LIGHT, "workbench.preferredDarkColorTheme": DARK, "editor.minimap.enabled": false, "terminal.integrated.gpuAcceleration": "off" } });
const { page } = editor;
page.on("console", (message) => {
  const text = message.text();
  if (message.type() === "error" && /Content Security Policy|onthefly\.onthefly|onthefly-1/i.test(text)) wrong.push(text.slice(0, 500));
});
page.on("pageerror", (error) => { if (/onthefly/i.test(error.stack ?? "")) wrong.push(error.message); });

const steps = async (frame) => Number(/step ([\d,]+)/.exec(await frame.locator(".state .figures").innerText({ timeout: 5000 }))?.[1]?.replaceAll(",", ""));
const state = (frame) => frame.locator(".state strong").innerText({ timeout: 5000 });
const curve = (frame) => frame.locator("[role=img]").first().getAttribute("aria-label", { timeout: 5000 });
const inBar = async () => /step ([\d,]+)/.exec(await editor.status().innerText())?.[1];

const hubFile = () => JSON.parse(fs.readFileSync(`${process.env.ONTHEFLY_RUNTIME_DIR}/hub.json`, "utf8"));

async function shot(name) {
  fs.mkdirSync(SHOTS, { recursive: true });
  await page.mouse.move(700, 700); // where nothing answers to a pointer
  await sleep(300);
  await page.screenshot({ path: `${SHOTS}/${name}.png` });
}

async function main() {
  done("the editor is installed and started");
  await editor.open(FOLDER);
  await editor.file(SCRIPT);
  const lens = page.locator(".codelens-decoration a", { hasText: "Run with OnTheFly" });
  await lens.waitFor();
  check(await page.locator('.editor-actions [aria-label^="Run with OnTheFly"]').first().isVisible(), "the button in the editor's title");
  done("the code lens stands above the script");
  // A click is lost where the editor draws its lenses anew at that moment.
  await until("the click on the lens shows the dashboard", async () => {
    await lens.click();
    return until("the dashboard", () => page.locator('.tab:has-text("OnTheFly")').first().isVisible(), 8);
  }, 30);
  const frame = editor.dashboard();
  await until("the script runs", async () => (await state(frame)) === "running", 60);
  const [first, before] = [await curve(frame), await steps(frame)];
  await until("the curve moves", async () => (await curve(frame)) !== first);
  await until("the step count moves", async () => (await steps(frame)) > before);
  done("the curve moves");
  const held = await frame.locator("html").evaluate(async (root) => ({
    text: [root.outerHTML, JSON.stringify(sessionStorage), JSON.stringify(localStorage), JSON.stringify(performance.getEntries())].join(),
    reached: await fetch("/healthz").then(() => true, () => false),
  }));
  check(!held.text.includes(hubFile().token), "no token in the page");
  check(!held.reached, "the page reaches nothing by itself");
  await until("the policy has said so", () => wrong.some((text) => text.includes("healthz")));
  wrong.length = 0;

  await until("the status bar has the session", async () => /running · step/.test(await editor.status().innerText()));
  await editor.command("View: Toggle Primary Side Bar Visibility");
  await until("a curve worth a picture", async () => (await steps(frame)) > 1200);
  await shot("running-light");
  await editor.command("Preferences: Toggle between Light/Dark Themes");
  await editor.command("OnTheFly: Focus on Sessions View");
  await until("the view lists the session", () => page.locator('.monaco-list-row[aria-label^="train it.py, running"]').isVisible());
  await until("the page is dark", async () => /^dark/.test(await frame.locator("html").getAttribute("data-theme")));
  await shot("running-dark");
  await editor.status().locator("a").click();
  await until("it is paused", async () => (await state(frame)) === "paused" && /paused/.test(await editor.status().innerText()));
  const [paused, bar] = [await steps(frame), await inBar()];
  await sleep(1000);
  check((await steps(frame)) === paused && (await inBar()) === bar, "the step count stands still while it is paused");
  done("paused from the status bar; the step count stands still");

  await page.reload();
  const again = editor.dashboard();
  await until("the page is restored", async () => (await state(again)) === "paused" && (await steps(again)) === paused, 60);
  await until("the status bar is restored", async () => /paused/.test(await editor.status().innerText()));
  await until("its terminal is restored", () => page.locator(".terminal-outer-container, .integrated-terminal").getByText(/epoch \d+: loss/).first().isVisible());
  done("reloaded and restored");
  await editor.status().locator("a").click();
  await until("it runs again", async () => (await state(again)) === "running" && (await steps(again)) > paused);
  done("resumed from the status bar");

  process.kill(hubFile().pid, "SIGKILL");
  await until("the page says that the hub is gone", () => again.locator(".banner").isVisible());
  const killed = await steps(again);
  await until("another hub has taken over", async () => !(await again.locator(".banner").isVisible()) && (await steps(again)) > killed);
  done("the hub was killed, and another one was found");

  const opened = editor.context.waitForEvent("page");
  await editor.command("OnTheFly: Open Dashboard in Browser");
  const outside = await opened;
  await until("the dashboard in the browser, behind the editor's proxy", async () => (await state(outside)) === "running" && /\/proxy\/\d+\/$/.test(outside.url()), 20);
  done("opened in the browser");
}

try {
  await main();
  for (const what of wrong) console.log(`wrong: ${what}`);
  process.exitCode = wrong.length ? 1 : 0;
} catch (error) {
  console.log(error.message, wrong);
  for (const [number, shown] of editor.context.pages().entries()) {
    console.log(await shown.locator("body").innerText().then((text) => text.replaceAll("\n", " ").slice(0, 300), String));
    await shown.screenshot({ path: `${SHOTS}/failed-${number}.png` }).catch(() => undefined);
  }
  process.exitCode = 1;
} finally {
  await editor.stop();
}
process.exit();
