// Tests that run inside the real extension host: what the editor's own API makes of this extension.
// FOLDERS in the environment: two workspace folders. The first holds `train it.py` and `plain.py`; the second `other.py`.
import * as assert from "node:assert/strict";
import * as fs from "node:fs";
import * as path from "node:path";
import * as vscode from "vscode";

const LIMIT_MS = 40_000;

async function until<T>(what: string, test: () => T | undefined | false | Promise<T | undefined | false>, milliseconds = 20_000): Promise<T> {
  const limit = Date.now() + milliseconds;
  while (Date.now() < limit) {
    const found = await test();
    if (found) return found;
    await new Promise((resume) => setTimeout(resume, 50));
  }
  throw new Error(`not within ${milliseconds / 1000} s: ${what}`);
}

const [first = "", second = ""] = (vscode.workspace.workspaceFolders ?? []).map(({ uri }) => uri.fsPath);
const script = path.join(first, "train it.py");
const runtime = process.env["ONTHEFLY_RUNTIME_DIR"] ?? "";

async function open(place: string): Promise<void> {
  await vscode.window.showTextDocument(vscode.Uri.file(place), { viewColumn: vscode.ViewColumn.One });
}

/** What the script wrote about how it was started. */
async function written(folder: string): Promise<{ argv: string[]; cwd: string }> {
  const place = path.join(folder, "started.json");
  await until(`${place} is written`, () => fs.existsSync(place));
  const text = await until("it is whole", () => fs.readFileSync(place, "utf8"));
  fs.rmSync(place);
  return JSON.parse(text) as { argv: string[]; cwd: string };
}

const pages = () => vscode.window.tabGroups.all.flatMap(({ tabs }) => tabs).filter(({ input }) => input instanceof vscode.TabInputWebview && input.viewType.includes("onthefly.dashboard"));

const TESTS: Record<string, () => Promise<void>> = {
  "it is active, and has every command that it declares": async () => {
    const extension = vscode.extensions.getExtension("onthefly.onthefly");
    assert.ok(extension);
    await extension.activate();
    const { contributes } = extension.packageJSON as { contributes: { commands: { command: string }[] } };
    const known = new Set(await vscode.commands.getCommands(true));
    for (const { command } of contributes.commands) assert.ok(known.has(command), command);
  },

  "lenses stand above the main block of a script that trains, and nowhere else": async () => {
    for (const place of [script, path.join(first, "plain.py")]) await vscode.workspace.openTextDocument(place);
    const lenses = (place: string) => vscode.commands.executeCommand<vscode.CodeLens[]>("vscode.executeCodeLensProvider", vscode.Uri.file(place), 10);
    const found = await lenses(script);
    const line = fs.readFileSync(script, "utf8").split("\n").indexOf('if __name__ == "__main__":');
    assert.deepEqual(found.map(({ range, command }) => [range.start.line, command?.command]), [[line, "onthefly.run"], [line, "onthefly.debug"], [line, "onthefly.runWithArguments"]]);
    assert.deepEqual(await lenses(path.join(first, "plain.py")), []);
  },

  "a script whose path has spaces and quotes runs in its folder, and a hub appears": async () => {
    await open(script);
    await vscode.commands.executeCommand("onthefly.run");
    assert.deepEqual(await written(first), { argv: [script], cwd: fs.realpathSync(first) });
    await until("hub.json", () => fs.existsSync(path.join(runtime, "hub.json")));
    assert.ok(vscode.window.terminals.some(({ name }) => name === "OnTheFly: train it.py"));
  },

  "a script of another workspace folder runs there": async () => {
    await vscode.commands.executeCommand("onthefly.run", vscode.Uri.file(path.join(second, "other.py")));
    assert.deepEqual(await written(second), { argv: [path.join(second, "other.py")], cwd: fs.realpathSync(second) });
  },

  "the dashboard was shown once, and its page is asked for once more when it was closed": async () => {
    await until("a page", () => pages().length === 1);
    await vscode.commands.executeCommand("onthefly.showDashboard");
    assert.equal(pages().length, 1);
    await vscode.window.tabGroups.close(pages());
    assert.equal(pages().length, 0);
    await vscode.commands.executeCommand("onthefly.showDashboard");
    await until("a page", () => pages().length === 1);
  },

  "a change that is not saved is saved before it runs": async () => {
    await open(script);
    const edit = new vscode.WorkspaceEdit();
    edit.insert(vscode.Uri.file(script), new vscode.Position(0, 0), "# changed\n");
    await vscode.workspace.applyEdit(edit);
    await vscode.commands.executeCommand("onthefly.run");
    await written(first);
    assert.ok(fs.readFileSync(script, "utf8").startsWith("# changed\n"));
  },

  "without a debugger, and without a session, it says so and throws nothing": async () => {
    // What is said stays until it is closed, and so do these commands.
    const said = ["debug", "stop", "pause", "resume", "toggle"].map((name) => vscode.commands.executeCommand(`onthefly.${name}`, name === "debug" ? script : { id: "gone" }));
    await new Promise((resume) => setTimeout(resume, 500));
    await vscode.commands.executeCommand("notifications.clearAll");
    await Promise.all(said);
  },

  "an interpreter without the package is not used, and one that is none is said to be": async () => {
    const settings = vscode.workspace.getConfiguration("onthefly");
    for (const python of [process.env["BARE_PYTHON"], "/nowhere/python"]) {
      await settings.update("python", python, vscode.ConfigurationTarget.Workspace);
      const said = vscode.commands.executeCommand("onthefly.run", script);
      await new Promise((resume) => setTimeout(resume, 1500));
      await vscode.commands.executeCommand("notifications.clearAll");
      await said;
      assert.ok(!fs.existsSync(path.join(first, "started.json")));
    }
    await settings.update("python", undefined, vscode.ConfigurationTarget.Workspace);
  },
};

export async function run(): Promise<void> {
  const failed: string[] = [];
  for (const [name, test] of Object.entries(TESTS)) {
    const late = new Promise<never>((_, reject) => setTimeout(() => { reject(new Error(`more than ${LIMIT_MS / 1000} s`)); }, LIMIT_MS).unref());
    try {
      await Promise.race([test(), late]);
      console.log(`ok: ${name}`);
    } catch (error) {
      failed.push(name);
      console.log(`wrong: ${name}: ${error instanceof Error ? (error.stack ?? error.message).split("\n").slice(0, 4).join("\n") : String(error)}`);
    }
  }
  if (failed.length) throw new Error(`${failed.length} failed`);
}
