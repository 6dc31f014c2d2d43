// Which Python runs a script, and whether it has the package.
import { execFile } from "node:child_process";
import * as path from "node:path";
import type { Editor } from "./editor";
import { atLeast } from "./versions";

/** Runs a program to its end; its standard output. Rejects with the reason. */
export type Execute = (program: string, args: string[], cwd: string, milliseconds: number) => Promise<string>;

export const execute: Execute = (program, args, cwd, timeout) =>
  new Promise((resolve, reject) => {
    execFile(program, args, { cwd, timeout, windowsHide: true, maxBuffer: 1 << 20 }, (error, out, err) => {
      if (!error) resolve(out);
      else reject(new Error(error.killed ? `no answer within ${timeout / 1000} s` : lastLines(err) || error.message, { cause: error }));
    });
  });

function lastLines(text: string): string {
  return text.trim().split("\n").slice(-3).join("\n").trim();
}

export type Package =
  | { state: "ready"; version: string }
  | { state: "missing" }
  | { state: "old"; version: string; oldest: string }
  /** The interpreter itself does not work. */
  | { state: "broken"; reason: string };

const PROBE = `
import importlib, json
try:
    version = str(getattr(importlib.import_module("onthefly"), "__version__", "0"))
except ImportError:
    version = None
print(json.dumps({"onthefly": version}))
`;
const PROBE_MS = 30_000;

export const REQUIREMENT = "onthefly-ai>=1.0";

export class Python {
  constructor(
    private readonly editor: Editor,
    private readonly run: Execute,
  ) {}

  /** The interpreter for a script: the Python extension's, else the setting's, else the first of the PATH that runs. */
  async interpreter(script: string | undefined): Promise<string> {
    const chosen = await this.editor.chosenPython(script);
    if (chosen) return chosen;
    const set = String(this.editor.setting("python", script) ?? "").trim();
    if (set) return this.inFolder(set, script);
    const names = process.platform === "win32" ? ["python", "python3"] : ["python3", "python"];
    for (const name of names) {
      if (await this.run(name, ["--version"], this.folder(script), PROBE_MS).then(() => true, () => false)) return name;
    }
    return names[0] ?? "python3";
  }

  /** Where a script runs: its workspace folder, else its own. */
  folder(script: string | undefined): string {
    const open = script === undefined ? this.editor.folders()[0] : (this.editor.folderOf(script) ?? path.dirname(script));
    return open ?? process.cwd();
  }

  async look(python: string, script: string | undefined): Promise<Package> {
    const oldest = String(this.editor.setting("minPythonPackage", script) ?? "");
    try {
      const out = await this.run(python, ["-c", PROBE], this.folder(script), PROBE_MS);
      const { onthefly } = JSON.parse(out.trim().split("\n").at(-1) ?? "") as { onthefly: string | null };
      if (onthefly === null) return { state: "missing" };
      return atLeast(onthefly, oldest) ? { state: "ready", version: onthefly } : { state: "old", version: onthefly, oldest };
    } catch (error) {
      return { state: "broken", reason: reason(error) };
    }
  }

  private inFolder(set: string, script: string | undefined): string {
    return /[\\/]/.test(set) && !path.isAbsolute(set) ? path.join(this.folder(script), set) : set;
  }
}

export function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** What pip is told to install; an `Error` where the setting names what must not be installed by name alone. */
export function requirement(source: string): string {
  const wanted = source.trim() || REQUIREMENT;
  if (wanted.startsWith("-")) throw new Error(`the setting onthefly.packageSource is an option of pip's, not a package: ${wanted}`);
  if (/^onthefly([-_.]ai)?(\[[^\]]*\])?$/i.test(wanted)) {
    throw new Error(`the setting onthefly.packageSource names "${wanted}" without a version, and an older system owns that name: say ${REQUIREMENT}, or a folder or wheel by its path`);
  }
  return wanted;
}
