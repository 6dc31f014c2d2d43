// What a person sees where something is missing: a workspace that is not trusted, a hub's file that outlived its hub, an
// interpreter without the package. From the environment, besides what editor.mjs wants: VSIX, FOLDER, SCRIPT, PYTHON, BARE_PYTHON.
import fs from "node:fs";
import { Editor, until } from "./editor.mjs";

const { VSIX, FOLDER, SCRIPT, SCRATCH, PYTHON, BARE_PYTHON, SHOTS, ONTHEFLY_RUNTIME_DIR: RUNTIME } = process.env;

// An interpreter that has the package once pip was told to install something. pip itself is not run.
const LACKING = `${SCRATCH}/my python`;
const TOLD = `${SCRATCH}/pip-was-told`;
fs.writeFileSync(LACKING, `#!/bin/sh
[ "$1 $2" = "-m pip" ] && { printf '%s\\n' "$@" > '${TOLD}'; exit 0; }
[ -e '${TOLD}' ] && exec '${PYTHON}' "$@"
exec '${BARE_PYTHON}' "$@"
`, { mode: 0o755 });

const started = Date.now();
const done = (what) => { console.log(`${((Date.now() - started) / 1000).toFixed(1)} s: ${what}`); };
const editor = await Editor.start({ vsix: VSIX, trust: true, machine: { "onthefly.python": LACKING } });
const { page } = editor;
const wrong = [];
page.on("console", (message) => {
  if (/activating extension 'onthefly|onthefly\.onthefly.*(failed|error)/i.test(message.text())) wrong.push(message.text().slice(0, 500));
});

function check(right, what) {
  if (!right) throw new Error(`wrong: ${what}`);
}
const said = (text) => until(`it says: ${text}`, async () => (await editor.notices()).some((notice) => notice.includes(text)));
const clear = () => editor.command("Notifications: Clear All Notifications");
const onPage = (text) => until(`the page says: ${text}`, async () => (await editor.dashboard().locator("body").innerText()).includes(text));

async function main() {
  // A hub that died without a word left this behind.
  fs.mkdirSync(RUNTIME, { recursive: true, mode: 0o700 });
  const dead = { pid: 2 ** 22 + 5, node: fs.readFileSync("/proc/sys/kernel/hostname", "utf8").trim(), host: "127.0.0.1", port: 9, agent_port: 10, token: "x".repeat(43), version: "1.0", protocol: 1, python: PYTHON, started: 0 };
  fs.writeFileSync(`${RUNTIME}/hub.json`, JSON.stringify(dead), { mode: 0o600 });

  await editor.open(FOLDER);
  await editor.file(SCRIPT);
  const lens = page.locator(".codelens-decoration a", { hasText: "Run with OnTheFly" });
  await lens.waitFor();
  await editor.command("OnTheFly: Run with OnTheFly");
  await said("This workspace is not trusted");
  await clear();
  await editor.command("OnTheFly: Show Dashboard");
  await onPage("This workspace is not trusted, so none is started from here");
  await page.screenshot({ path: `${SHOTS}/untrusted.png` });
  done("it starts nothing in a workspace that is not trusted, and says so");

  await editor.command("Workspaces: Manage Workspace Trust");
  await page.locator(".workspace-trust-editor").getByRole("button", { name: "Trust", exact: true }).click();
  await until("it is trusted", async () => (await page.locator(".workspace-trust-editor").innerText()).includes("You trust this folder"));
  await editor.file(SCRIPT);
  await editor.command("OnTheFly: Show Dashboard");
  await said("has no OnTheFly. Install it there? This runs: pip install \"onthefly-ai>=1.0\"");
  await page.screenshot({ path: `${SHOTS}/missing.png` });
  await clear();
  await onPage("The Python package is needed to start one");
  done("an interpreter without the package is offered it, and nothing is installed without a yes");

  await editor.command("OnTheFly: Show Dashboard");
  await said("has no OnTheFly");
  await page.locator(".notification-toast").getByRole("button", { name: "Install" }).click();
  await until("pip was told", () => fs.existsSync(TOLD));
  check(fs.readFileSync(TOLD, "utf8") === "-m\npip\ninstall\nonthefly-ai>=1.0\n", "what pip was told");
  await until("another hub", () => JSON.parse(fs.readFileSync(`${RUNTIME}/hub.json`, "utf8")).pid !== dead.pid);
  await onPage("Waiting for a script");
  await page.screenshot({ path: `${SHOTS}/waiting.png` });
  done("the package is installed after a yes; a hub is started in place of the dead one, and the page finds it");
}

try {
  await main();
  for (const what of wrong) console.log(`wrong: ${what}`);
  process.exitCode = wrong.length ? 1 : 0;
} catch (error) {
  console.log(error.message, await editor.notices().catch(() => []), wrong);
  await page.screenshot({ path: `${SHOTS}/odd-failed.png` }).catch(() => undefined);
  process.exitCode = 1;
} finally {
  await editor.stop();
}
process.exit();
