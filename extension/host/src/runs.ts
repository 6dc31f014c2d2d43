// Run and debug: from a script to a program in a terminal, with everything that may be missing asked for on the way.
import * as path from "node:path";
import type { Editor, Lens, Script } from "./editor";
import { reason, requirement, type Package, type Python } from "./python";
import { trainingLine } from "./training";
import { split } from "./words";

export const TRUST = "Manage Workspace Trust";
const [INSTALL, CHOOSE, ARGUMENTS] = ["Install", "Choose Interpreter", "Change Arguments"];

export class Runs {
  constructor(
    private readonly editor: Editor,
    private readonly python: Python,
    /** Show the dashboard beside the script; the hub is about to start. */
    private readonly show: () => void,
    /** The lenses are others now. */
    private readonly changed: () => void,
  ) {}

  lenses({ path: place, text }: Script): Lens[] {
    const line = this.editor.setting("codeLens", place) === false ? null : trainingLine(text);
    if (line === null) return [];
    const given = this.argumentsOf(place);
    const lens = (title: string, tooltip: string, command: string) => ({ line, title, tooltip, command, args: [place] });
    return [
      lens("$(play) Run with OnTheFly", `python -m onthefly ${path.basename(place)} ${given}`.trim(), "onthefly.run"),
      lens("$(debug-alt) Debug with OnTheFly", "The same, in the Python debugger: breakpoints of the script hold", "onthefly.debug"),
      lens(given ? `arguments: ${shortened(given)}` : "arguments…", "Run with other arguments; they are kept for this file", "onthefly.runWithArguments"),
    ];
  }

  /** Which files have the button: the context of its `when` clause. */
  training(): string[] {
    return this.editor.scripts().filter(({ text }) => trainingLine(text) !== null).map(({ path: place }) => place);
  }

  async run(script: string | undefined): Promise<void> {
    const ready = await this.prepare(script);
    if (!ready) return;
    await this.shown(ready.script);
    const name = `OnTheFly: ${path.basename(ready.script)}`;
    this.editor.launch({ name, program: ready.python, args: ["-m", "onthefly", ready.script, ...ready.args], cwd: ready.cwd });
  }

  async debug(script: string | undefined): Promise<void> {
    if (!this.editor.debugs()) {
      await this.editor.say("warning", "Debugging needs the Python Debugger extension (ms-python.debugpy), which is not installed. Install it, or run the script without a debugger.");
      return;
    }
    const ready = await this.prepare(script);
    if (!ready) return;
    await this.shown(ready.script);
    const started = await this.editor.debug(this.editor.folderOf(ready.script), `OnTheFly: ${path.basename(ready.script)}`, {
      type: "debugpy", request: "launch", module: "onthefly", args: [ready.script, ...ready.args], python: ready.python,
      cwd: ready.cwd, console: "integratedTerminal", subProcess: true,
    });
    if (!started) this.editor.log(`no debug session was started for ${ready.script}`);
  }

  async runWithArguments(script: string | undefined): Promise<void> {
    const place = script ?? this.editor.activeScript();
    if (place === undefined) return this.noScript();
    const prompt = "As in a terminal: words by spaces, quotes around words with spaces. Kept for this file.";
    const given = await this.editor.ask(`Arguments of ${path.basename(place)}`, prompt, this.argumentsOf(place), wrongWords);
    if (given === undefined) return;
    await this.editor.remember(key(place), given.trim());
    this.changed();
    await this.run(place);
  }

  /** Look for the package in the interpreter of the script at hand, and offer to install it. */
  async install(): Promise<void> {
    if (await this.refused()) return;
    const script = this.editor.activeScript();
    const python = await this.python.interpreter(script);
    const found = await this.python.look(python, script);
    if (found.state === "ready") await this.editor.say("info", `OnTheFly ${found.version} is installed in ${python}.`);
    else await this.offer(found, python, script);
  }

  /** The interpreter for `script`, if it has the package, or has it after the person let it be installed. */
  async usable(script: string | undefined): Promise<string | undefined> {
    const python = await this.python.interpreter(script);
    const found = await this.python.look(python, script);
    return found.state === "ready" || (await this.offer(found, python, script)) ? python : undefined;
  }

  private async prepare(given: string | undefined): Promise<{ script: string; python: string; args: string[]; cwd: string } | undefined> {
    if (await this.refused()) return undefined;
    const script = given ?? this.editor.activeScript();
    if (script === undefined) {
      await this.noScript();
      return undefined;
    }
    if (!(await this.editor.save(script))) {
      await this.editor.say("warning", `${path.basename(script)} could not be saved, so it was not run.`);
      return undefined;
    }
    let args: string[];
    try {
      args = split(this.argumentsOf(script));
    } catch (error) {
      if (await this.editor.say("error", `The arguments kept for ${path.basename(script)} cannot be read: ${reason(error)}.`, ARGUMENTS)) await this.runWithArguments(script);
      return undefined;
    }
    const python = await this.usable(script);
    return python === undefined ? undefined : { script, python, args, cwd: this.python.folder(script) };
  }

  /** True, with words, in a workspace that is not trusted: nothing of its is started there. */
  private async refused(): Promise<boolean> {
    if (this.editor.trusted()) return false;
    const text = "This workspace is not trusted, so OnTheFly starts nothing in it. Trust it to run scripts; sessions that run already can be watched.";
    if (await this.editor.say("warning", text, TRUST)) await this.editor.execute("workbench.trust.manage");
    return true;
  }

  private async noScript(): Promise<void> {
    await this.editor.say("info", "Open the Python script to run, and try again.");
  }

  /** Say what is missing and install it if the person wants that; whether it is there now. */
  private async offer(found: Exclude<Package, { state: "ready" }>, python: string, script: string | undefined): Promise<boolean> {
    if (found.state === "broken") {
      const text = `The interpreter ${python} does not work: ${found.reason}. Choose another in the Python extension, or in the setting onthefly.python.`;
      if (await this.editor.say("error", text, CHOOSE)) await this.editor.execute("workbench.action.openSettings", "onthefly.python");
      return false;
    }
    let wanted: string;
    try {
      wanted = requirement(String(this.editor.setting("packageSource", script) ?? ""));
    } catch (error) {
      await this.editor.say("error", `OnTheFly is not installed in ${python}, and ${reason(error)}.`);
      return false;
    }
    const lacks = found.state === "missing" ? "has no OnTheFly" : `has OnTheFly ${found.version}, and ${found.oldest} or newer is needed`;
    if (!(await this.editor.say("warning", `${python} ${lacks}. Install it there? This runs: pip install "${wanted}"`, INSTALL))) return false;
    const code = await this.editor.run({ name: "OnTheFly: pip install", program: python, args: ["-m", "pip", "install", wanted], cwd: this.python.folder(script) });
    const now = await this.python.look(python, script);
    if (now.state === "ready") return true;
    const outcome = code === 0 ? "pip has ended, and the package is still not there" : `pip ended with code ${code ?? "unknown"}`;
    await this.editor.say("error", `${outcome}; its terminal says why. Another source can be named in the setting onthefly.packageSource.`);
    return false;
  }

  private async shown(script: string): Promise<void> {
    await this.editor.remember("lastScript", script);
    if (this.editor.setting("showDashboardOnRun", script) !== false) this.show();
  }

  private argumentsOf(script: string): string {
    const kept = this.editor.recall(key(script));
    return typeof kept === "string" ? kept : "";
  }
}

function key(script: string): string {
  return `arguments ${script}`;
}

function shortened(text: string): string {
  return text.length > 40 ? `${text.slice(0, 39)}…` : text;
}

function wrongWords(line: string): string {
  try {
    split(line);
    return "";
  } catch (error) {
    return reason(error);
  }
}
