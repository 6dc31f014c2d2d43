// A real VS Code for a test: code-server with a profile of its own, in headless Chromium. Run by the Node that runs code-server.
// From the environment: CODE_SERVER (its program), CHROMIUM, SCRATCH (a folder of this test's).
import { chromium } from "playwright-core";
import { execFileSync, spawn } from "node:child_process";
import fs from "node:fs";
import net from "node:net";

const { CODE_SERVER, CHROMIUM, SCRATCH } = process.env;
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const QUIET = {
  "security.workspace.trust.enabled": false,
  "workbench.startupEditor": "none",
  "workbench.secondarySideBar.defaultVisibility": "hidden",
  "workbench.enableExperiments": false,
  "workbench.tips.enabled": false,
  "remote.autoForwardPorts": false,
  "telemetry.telemetryLevel": "off",
  "extensions.ignoreRecommendations": true,
  "git.enabled": false,
  "git.openRepositoryInParentFolders": "never",
  "chat.disableAIFeatures": true,
};

const freePort = () => new Promise((resolve) => {
  const server = net.createServer().listen(0, "127.0.0.1", () => {
    const { port } = server.address();
    server.close(() => { resolve(port); });
  });
});

export const sleep = (milliseconds) => new Promise((resume) => { setTimeout(resume, milliseconds); });

/** Poll until `test()` is truthy; an error that names `what` after the deadline. */
export async function until(what, test, seconds = 30) {
  const limit = Date.now() + 1000 * seconds;
  while (Date.now() < limit) {
    const found = await Promise.resolve().then(test).catch(() => undefined);
    if (found) return found;
    await sleep(50);
  }
  throw new Error(`not within ${seconds} s: ${what}`);
}

export class Editor {
  static async start({ vsix, settings = {}, machine = {}, env = {}, trust = false, driver = false }) {
    const editor = new Editor();
    const folder = fs.mkdtempSync(`${SCRATCH}/editor-`);
    const port = await freePort();
    editor.base = `http://127.0.0.1:${port}`;
    editor.authority = `vscode-remote://127.0.0.1:${port}`;
    fs.mkdirSync(`${folder}/user/User`, { recursive: true });
    fs.mkdirSync(`${folder}/extensions`);
    fs.writeFileSync(`${folder}/config.yaml`, `bind-addr: 127.0.0.1:${port}\nauth: none\ncert: false\n`);
    const all = { ...QUIET, ...(trust && { "security.workspace.trust.enabled": true, "security.workspace.trust.startupPrompt": "never", "security.workspace.trust.banner": "never" }), ...settings };
    fs.writeFileSync(`${folder}/user/User/settings.json`, JSON.stringify(all));
    // Paths of this machine count as such: to the editor it is a remote one.
    fs.mkdirSync(`${folder}/user/Machine`);
    fs.writeFileSync(`${folder}/user/Machine/settings.json`, JSON.stringify(machine));
    const common = ["--config", `${folder}/config.yaml`, "--user-data-dir", `${folder}/user`, "--extensions-dir", `${folder}/extensions`];
    const kept = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("VSCODE_")));
    // Without a gallery it asks nobody for anything.
    const environment = { ...kept, EXTENSIONS_GALLERY: '{"serviceUrl":""}', XDG_DATA_HOME: `${folder}/data`, XDG_CONFIG_HOME: `${folder}/config`, ...env };
    if (vsix) execFileSync(process.execPath, [CODE_SERVER, ...common, "--install-extension", vsix], { env: environment, stdio: "pipe" });
    const log = fs.openSync(`${folder}/server.log`, "w");
    const words = ["--disable-telemetry", "--disable-update-check", "--disable-getting-started-override", ...(driver ? ["--vscode-option", "enable-smoke-test-driver"] : []), ...(trust ? [] : ["--disable-workspace-trust"])];
    // Detached: it is the leader of a group, which is ended as a whole.
    editor.server = spawn(process.execPath, [CODE_SERVER, ...common, ...words], { env: environment, stdio: ["ignore", log, log], detached: true });
    await until("code-server answers", async () => (await fetch(`${editor.base}/healthz`)).ok);
    editor.browser = await chromium.launch({ executablePath: CHROMIUM, headless: true, args: FLAGS });
    const context = await editor.browser.newContext({ viewport: { width: 1500, height: 940 }, colorScheme: "light", permissions: ["clipboard-read", "clipboard-write"] });
    editor.context = context;
    editor.page = await context.newPage();
    editor.page.setDefaultTimeout(30_000);
    return editor;
  }

  async open(folder, kind = "folder") {
    await this.page.goto(`${this.base}/?${kind}=${encodeURIComponent(folder)}`);
    await this.page.locator(".monaco-workbench .statusbar-item").first().waitFor({ timeout: 60_000 });
  }

  /** Run a command from the palette. */
  async command(title) {
    await this.choose("F1", `>${title}`, title);
  }

  /** Open a file by its name. */
  async file(name) {
    await this.choose("Control+P", name, name);
    await this.page.locator(`.tab:has-text("${name}")`).first().waitFor();
  }

  /** Type into the palette, and take what it offers first: by the key, for its rows move until it has settled. */
  async choose(key, text, offered) {
    await this.page.keyboard.press(key);
    const input = this.page.locator(".quick-input-widget input[type=text]").first();
    await input.waitFor();
    await input.fill(text);
    await this.page.locator(`.quick-input-list .monaco-list-row.focused:has-text("${offered}")`).first().waitFor();
    await this.page.keyboard.press("Enter");
  }

  /** What stands in the status bar under that name. */
  status() {
    return this.page.locator('.statusbar-item[id="onthefly.onthefly.session"]');
  }

  /** The page in the webview. */
  dashboard(place = 0) {
    return this.page.frameLocator("iframe.webview").nth(place).frameLocator("#active-frame");
  }

  /** Texts of the notifications on the screen. */
  notices() {
    return this.page.locator(".notification-toast .notification-list-item-message").allInnerTexts();
  }

  async stop() {
    await this.browser?.close();
    try {
      process.kill(-this.server.pid, "SIGTERM");
    } catch {
      // It is gone.
    }
  }
}
