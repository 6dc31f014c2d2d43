import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import manifest from "../package.json";
import { OnTheFly } from "../src/main";
import { page } from "../src/page";
import { FakeEditor, FakePanel, session } from "./fake";

const TOKEN = "a-very-secret-token";

let editor: FakeEditor;
let extension: OnTheFly;
let folder: string;
let executed: string[][];
let fails: Error | null;

beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), "onthefly-main-"));
  fs.chmodSync(folder, 0o700);
  editor = new FakeEditor();
  [executed, fails] = [[], null];
  extension = new OnTheFly(editor, (program, args) => {
    executed.push([program, ...args]);
    if (fails && args.includes("dashboard")) return Promise.reject(fails);
    return Promise.resolve('{"onthefly": "1.0"}');
  }, { ONTHEFLY_RUNTIME_DIR: folder });
  extension.start();
});
afterEach(() => {
  extension.stop();
  vi.restoreAllMocks();
  fs.rmSync(folder, { recursive: true, force: true });
});

const command = async (name: string, ...given: unknown[]) => { await editor.commands.get(`onthefly.${name}`)?.(...given); };

/** A hub that seems to live: its file, and a connection that is open. */
function hub(): void {
  const file = { pid: process.pid, node: os.hostname(), host: "127.0.0.1", port: 47621, token: TOKEN, version: "1.0", protocol: 1 };
  fs.writeFileSync(path.join(folder, "hub.json"), JSON.stringify(file), { mode: 0o600 });
  vi.spyOn(extension.sessions.connection, "open", "get").mockReturnValue(true);
  vi.spyOn(extension.sessions.connection, "file", "get").mockReturnValue(file);
}

/** What the pages are told, as text. */
const told = (panel = editor.made[0]) => JSON.stringify(panel?.posted);

describe("the extension", () => {
  it("has a handler for each command that it declares, and declares each setting that it reads", () => {
    expect([...editor.commands.keys()].sort()).toEqual(manifest.contributes.commands.map(({ command }) => command).sort());
    const source = fs.readdirSync("src").map((name) => fs.readFileSync(path.join("src", name), "utf8")).join("\n");
    const read = [...source.matchAll(/\.setting\("(\w+)"/g)].map(([, name]) => `onthefly.${String(name)}`);
    expect([...new Set(read)].sort()).toEqual(Object.keys(manifest.contributes.configuration.properties).sort());
  });


  it("names every command and setting in its README", () => {
    const text = fs.readFileSync("README.md", "utf8");
    for (const { title } of manifest.contributes.commands) expect(text).toContain(title);
    for (const name of Object.keys(manifest.contributes.configuration.properties)) expect(text).toContain(`\`${name}\``);
  });

  it("restricts, in an untrusted workspace, each setting that chooses what runs", () => {
    const chooses = ["onthefly.python", "onthefly.packageSource", "onthefly.minPythonPackage"];
    expect(manifest.capabilities.untrustedWorkspaces).toMatchObject({ supported: "limited", restrictedConfigurations: chooses });
  });

  it("tells faults of its own and goes on", async () => {
    vi.spyOn(extension.pages, "show").mockImplementation(() => { throw new Error("no panel"); });
    await command("showDashboard");
    expect(editor.said).toEqual([["error", "OnTheFly: no panel"]]);
    expect(editor.logged[0]).toContain("showDashboard: Error: no panel");
  });

  it("marks the scripts that train, for the button", () => {
    editor.documents = [{ path: "/project/t.py", text: "import torch\nif __name__ == '__main__': f()" }];
    editor.happen("scripts");
    expect(editor.contexts.get("onthefly.scripts")).toEqual(["/project/t.py"]);
  });

  it("runs what a lens or a menu names", async () => {
    await command("run", "/project/a.py");
    await command("run", { fsPath: "/project/b.py" });
    expect(editor.launched.map(({ args }) => args[2])).toEqual(["/project/a.py", "/project/b.py"]);
    await command("getStarted");
    expect(editor.executed[0]?.[0]).toBe("workbench.action.openWalkthrough");
  });
});

describe("show dashboard", () => {
  it("starts a hub in Python's own words where none runs, and shows one page however often", async () => {
    await command("showDashboard");
    await command("showDashboard");
    expect(executed).toContainEqual(["python3", "-m", "onthefly", "dashboard", "--no-browser", "--json"]);
    expect(editor.made).toHaveLength(1);
    expect(editor.made[0]?.revealed).toBe(1);
  });

  it("starts none where one runs", async () => {
    hub();
    await command("showDashboard");
    expect(executed).toEqual([]);
  });

  it.each<[string, () => void, string]>([
    ["in a workspace that is not trusted", () => { editor.isTrusted = false; }, "not trusted"],
    ["where it does not start", () => { fails = new Error("the hub did not start: see hub.log"); }, "see hub.log"],
  ])("says on the page what to do %s", async (_, arrange, words) => {
    arrange();
    await command("showDashboard");
    editor.made[0]?.tell({ type: "start" });
    await vi.waitFor(() => { expect(told()).toContain(words); });
    expect(told()).toContain("connecting");
  });

  it("says on a page that is there already why none was started", async () => {
    extension.pages.show();
    editor.made[0]?.tell({ type: "start" });
    await vi.waitFor(() => { expect(told()).toContain("It starts with the next script"); });
    fails = new Error("see hub.log");
    await command("showDashboard");
    expect(told()).toContain("see hub.log");
  });

  it("opens a page of its own for a session of the view", async () => {
    hub();
    await command("showDashboard");
    await command("showDashboard", { id: "k3f9q2ma" });
    editor.made[1]?.tell({ type: "start" });
    expect(editor.made[1]?.posted[0]).toEqual({ type: "follow", session: "k3f9q2ma" });
    editor.made[1]?.tell({ type: "shows", session: "k3f9q2ma", name: "train.py" });
    expect(editor.made[1]?.titled).toBe("train.py - OnTheFly");
    await command("showDashboard", { id: "k3f9q2ma" });
    expect(editor.made).toHaveLength(2);
    editor.made[1]?.close();
    await command("showDashboard", { id: "k3f9q2ma" });
    expect(editor.made).toHaveLength(3);
  });
});

describe("a page", () => {
  it("may load its own files and nothing else, and holds no token", () => {
    const text = page(new FakePanel(0));
    const nonce = /'nonce-([^']+)'/.exec(text)?.[1] ?? "";
    expect(text).toContain(`<script type="module" nonce="${nonce}" src="webview:/dist/dashboard/dashboard.js">`);
    expect(/content="([^"]+)"/.exec(text)?.[1]).toBe(`default-src 'none'; script-src 'nonce-${nonce}'; style-src vscode-webview:; img-src data: blob:; connect-src 'none'; base-uri 'none'; form-action 'none'`);
    expect(page(new FakePanel(0))).not.toContain(nonce);
  });

  it("is restored with what it showed; what is no session counts as none", () => {
    for (const [state, revealed] of [[{ session: "k3f9q2ma" }, 1], [null, 0], [{ session: "../x" }, 0], ["x", 0]] as const) {
      const panel = new FakePanel(100 + revealed);
      editor.restore(panel, state);
      extension.pages.show("k3f9q2ma");
      expect([state, panel.revealed]).toEqual([state, revealed]);
      panel.close();
    }
  });

  it("may ask for the hub's data by its own paths, and for nothing else", async () => {
    hub();
    await command("showDashboard");
    const panel = editor.made[0];
    panel?.tell({ type: "start" });
    const bad = ["../healthz", "/etc/passwd", "sessions/../../x", "sessions/a/b/c/d", "http://evil.example/", "//evil.example", "origins", "hub#x", "sessions/x\\y", "hub?a b", "sessions/k/samples?x=" + "y".repeat(3000)];
    bad.forEach((path, id) => { panel?.tell({ type: "get", id, path }); });
    await vi.waitFor(() => { expect(panel?.posted.filter((message) => (message as { type: string }).type === "got")).toHaveLength(bad.length); });
    expect(told()).not.toContain('"ok":true');
    expect(told()).not.toContain(TOKEN);
  });

  it("may pin, delete and import, and have a session put where the person says; nothing else", async () => {
    hub();
    const ask = vi.spyOn(extension.sessions.connection, "ask");
    await command("showDashboard");
    const panel = editor.made[0];
    panel?.tell({ type: "start" });
    const bad = [["POST", "origins", "{}"], ["POST", "token", "{}"], ["POST", "sessions/a/stage", "{}"], ["DELETE", "sessions", ""], ["DELETE", "sessions/a/../b", ""], ["POST", "import?trust=yes&x=1", ""], ["POST", "sessions/a/commands", "{}"]];
    bad.forEach(([method, path, body], id) => { panel?.tell({ type: "ask", id, method, path, body }); });
    for (const message of [{ type: "ask", id: 90, method: "PUT", path: "x", body: "" }, { type: "ask", id: 91, method: "POST", path: "import", body: 7 }, { type: "ask", id: 92, method: "POST", path: "sessions/a/pin", body: "{" }, { type: "bundle", id: 93, session: "a", wanted: null }]) panel?.tell(message);
    panel?.tell({ type: "bundle", id: 94, session: "../x", wanted: {} });
    editor.answers = [undefined];
    panel?.tell({ type: "bundle", id: 95, session: "k3f9q2ma", wanted: {} });
    await vi.waitFor(() => { expect(panel?.posted.filter((message) => (message as { type: string }).type === "got")).toHaveLength(bad.length + 2); });
    expect(panel?.posted.filter((message) => (message as { ok?: boolean }).ok)).toEqual([{ type: "got", id: 95, ok: true, body: "false" }]);
    expect(ask).not.toHaveBeenCalled();
    expect(told()).not.toContain(TOKEN);
  });

  it("is not believed, whatever it says", async () => {
    await command("showDashboard");
    const panel = editor.made[0];
    for (const message of [null, undefined, 7, "x", [], {}, { type: "token" }, { type: "send" }, { type: "send", message: null }, { type: "send", message: { type: "import" } }, { type: "save" }, { type: "get", id: 1, path: {} }, { type: "constructor" }, { type: "save", name: 7, content: "x" }, { type: "shows", session: 7 }]) panel?.tell(message);
    await new Promise((resume) => setTimeout(resume, 20));
    expect(editor.written.size).toBe(0);
    expect(editor.said.filter(([weight]) => weight === "error")).toEqual([]);
  });

  it("saves files where the person says, under a name without folders", async () => {
    await command("showDashboard");
    editor.answers = ["/project/a.csv"];
    editor.made[0]?.tell({ type: "save", name: "../../a.csv", content: new TextEncoder().encode("x").buffer });
    await vi.waitFor(() => { expect([...editor.written.keys()]).toEqual(["/project/a.csv"]); });
  });
});

describe("open in browser", () => {
  it("goes by a file of our own on the desktop: an address on a command line could be read by others", async () => {
    hub();
    await command("openInBrowser");
    const place = path.join(folder, "open.html");
    expect(editor.opened).toEqual([`file://${place}`]);
    expect(fs.statSync(place).mode & 0o777).toBe(0o600);
    expect(fs.readFileSync(place, "utf8")).toContain(`http://127.0.0.1:47621/#token=${TOKEN}`);
  });

  it("tells the hub the name that the editor's proxy calls it by", async () => {
    hub();
    editor.where = "browser";
    editor.outside = () => "https://editor.example/proxy/47621/";
    const ask = vi.spyOn(extension.sessions.connection, "ask").mockResolvedValue({ ok: true, body: new ArrayBuffer(0) });
    await command("openInBrowser");
    expect(ask).toHaveBeenCalledWith("origins", { origin: "https://editor.example" });
    expect(editor.opened).toEqual([`https://editor.example/proxy/47621/#token=${TOKEN}`]);
    ask.mockResolvedValue({ ok: false, body: new ArrayBuffer(0) });
    await command("openInBrowser");
    expect(editor.said.at(-1)?.[1]).toContain("this hub is older");
  });

  it("puts the address into the clipboard where the browser is on another machine", async () => {
    hub();
    editor.where = "remote";
    await command("openInBrowser");
    expect(editor.copied).toBe(`http://127.0.0.1:47621/#token=${TOKEN}`);
    expect(JSON.stringify(editor.said)).not.toContain(TOKEN);
  });

  it("says what stands in the way", async () => {
    editor.isTrusted = false;
    await command("openInBrowser");
    expect(editor.said.at(-1)?.[1]).toContain("No hub is running. This workspace is not trusted");
  });
});

describe("the view", () => {
  it("is drawn soon where a session is in another state, and seldom where only its figures moved", async () => {
    vi.useFakeTimers();
    hub();
    const listener = (extension.sessions.connection as unknown as { listener: { text(text: string): void } }).listener;
    const say = (changes: object) => { listener.text(JSON.stringify({ type: "session", session: session(changes) })); };
    say({});
    await vi.advanceTimersByTimeAsync(400);
    expect(editor.refreshed).toBe(1);
    for (let step = 0; step < 50; step++) {
      say({ step });
      await vi.advanceTimersByTimeAsync(100);
    }
    expect(editor.refreshed).toBe(2);
    expect(editor.rowsOf().map(({ description }) => description)).toEqual(["step 49 · loss 0.5000"]);
    say({ state: "paused" });
    await vi.advanceTimersByTimeAsync(400);
    expect(editor.refreshed).toBe(3);
    vi.useRealTimers();
  });
});
