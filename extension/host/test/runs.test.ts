import { beforeEach, describe, expect, it } from "vitest";
import { Python, requirement, type Execute } from "../src/python";
import { Runs } from "../src/runs";
import { FakeEditor } from "./fake";

const SCRIPT = "/project/it's a project/train it.py";
const TEXT = 'import torch\n\nif __name__ == "__main__":\n    main()\n';

let editor: FakeEditor;
let runs: Runs;
let shown: number;
let changed: number;
/** What the interpreters say: version, null where the package is missing, an Error where it does not run. */
let says: Record<string, string | null | Error>;
let executed: string[][];

const execute: Execute = (program, args) => {
  executed.push([program, ...args]);
  const said = says[program];
  if (said === undefined) return Promise.reject(new Error(`spawn ${program} ENOENT`));
  if (said instanceof Error) return Promise.reject(said);
  return Promise.resolve(args[0] === "--version" ? "Python 3.12" : `noise of a module\n${JSON.stringify({ onthefly: said })}\n`);
};

beforeEach(() => {
  editor = new FakeEditor();
  editor.active = SCRIPT;
  [shown, changed, says, executed] = [0, 0, { python3: "1.0.0.dev0" }, []];
  runs = new Runs(editor, new Python(editor, execute), () => { shown++; }, () => { changed++; });
});

const texts = () => editor.said.map(([, text]) => text);

describe("run", () => {
  it("runs the module on the script, each argument a word of its own, in the workspace folder", async () => {
    editor.memory.set(`arguments ${SCRIPT}`, `--epochs 3 --name "my run"`);
    await runs.run(undefined);
    expect(editor.launched).toEqual([{ name: "OnTheFly: train it.py", program: "python3", args: ["-m", "onthefly", SCRIPT, "--epochs", "3", "--name", "my run"], cwd: "/project" }]);
    expect(shown).toBe(1);
  });

  it("runs the script that it was given, in its own folder where none is open", async () => {
    editor.roots = [];
    editor.settings["showDashboardOnRun"] = false;
    await runs.run("/else/t.py");
    expect(editor.launched[0]).toMatchObject({ args: ["-m", "onthefly", "/else/t.py"], cwd: "/else" });
    expect(shown).toBe(0);
  });

  it("says what to do without a script, and where it cannot be saved", async () => {
    editor.active = undefined;
    await runs.run(undefined);
    editor.savable = false;
    await runs.run(SCRIPT);
    expect(texts()).toEqual(["Open the Python script to run, and try again.", "train it.py could not be saved, so it was not run."]);
    expect(editor.launched).toEqual([]);
  });

  it("starts nothing in a workspace that is not trusted", async () => {
    editor.isTrusted = false;
    editor.debugger = true;
    editor.answers = ["Manage Workspace Trust"];
    await runs.run(SCRIPT);
    await runs.debug(SCRIPT);
    await runs.install();
    expect(executed).toEqual([]);
    expect([editor.launched, editor.debugged, editor.ran]).toEqual([[], [], []]);
    expect(texts()[0]).toContain("This workspace is not trusted");
    expect(editor.executed).toEqual([["workbench.trust.manage"]]);
  });

  it("offers to change arguments that cannot be read", async () => {
    editor.memory.set(`arguments ${SCRIPT}`, `--name "x`);
    editor.answers = ["Change Arguments", `--name x`];
    await runs.run(SCRIPT);
    expect(texts()[0]).toContain(`a " is not closed`);
    expect(editor.launched[0]?.args).toEqual(["-m", "onthefly", SCRIPT, "--name", "x"]);
  });

  it("keeps arguments for the file, and shows them above it", async () => {
    editor.answers = [" --lr 0.1 "];
    await runs.runWithArguments(SCRIPT);
    expect(changed).toBe(1);
    expect(runs.lenses({ path: SCRIPT, text: TEXT }).map(({ title, line }) => [title, line])).toEqual([
      ["$(play) Run with OnTheFly", 2], ["$(debug-alt) Debug with OnTheFly", 2], ["arguments: --lr 0.1", 2],
    ]);
    expect(runs.lenses({ path: "/project/other.py", text: TEXT })[2]?.title).toBe("arguments…");
    editor.answers = [undefined];
    await runs.runWithArguments(SCRIPT);
    expect(editor.launched).toHaveLength(1);
  });

  it("shows no lens where it is switched off, or nothing is trained", () => {
    expect(runs.lenses({ path: SCRIPT, text: "import numpy" })).toEqual([]);
    editor.settings["codeLens"] = false;
    expect(runs.lenses({ path: SCRIPT, text: TEXT })).toEqual([]);
    editor.documents = [{ path: SCRIPT, text: TEXT }, { path: "/project/no.py", text: "" }];
    expect(runs.training()).toEqual([SCRIPT]);
  });
});

describe("the interpreter", () => {
  it("is the Python extension's, else the setting's, else the first of the PATH that runs", async () => {
    Object.assign(says, { "/venv/bin/python": "1.0", "/project/.venv/bin/python": "1.1", python: "1.2" });
    editor.settings["python"] = ".venv/bin/python";
    editor.python = "/venv/bin/python";
    await runs.run(SCRIPT);
    editor.python = undefined;
    await runs.run(SCRIPT);
    editor.settings["python"] = "";
    await runs.run(SCRIPT);
    says["python3"] = new Error("the shim of a store");
    await runs.run(SCRIPT);
    expect(editor.launched.map(({ program }) => program)).toEqual(["/venv/bin/python", "/project/.venv/bin/python", "python3", "python"]);
  });

  it("is said to be missing where none runs", async () => {
    says = {};
    editor.answers = ["Choose Interpreter"];
    await runs.run(SCRIPT);
    expect(texts()[0]).toContain("The interpreter python3 does not work: spawn python3 ENOENT");
    expect(editor.executed).toEqual([["workbench.action.openSettings", "onthefly.python"]]);
  });
});

describe("the package", () => {
  it("is offered where it is missing, installed by its version, and the script runs then", async () => {
    says["python3"] = null;
    editor.answers = ["Install"];
    editor.run = (program) => {
      editor.ran.push(program);
      says["python3"] = "1.0";
      return Promise.resolve(0);
    };
    await runs.run(SCRIPT);
    expect(texts()).toEqual(['python3 has no OnTheFly. Install it there? This runs: pip install "onthefly-ai>=1.0"']);
    expect(editor.ran[0]).toMatchObject({ program: "python3", args: ["-m", "pip", "install", "onthefly-ai>=1.0"] });
    expect(editor.launched).toHaveLength(1);
  });

  it("is offered where it is too old, from the source that is set", async () => {
    says["python3"] = "0.1.4";
    editor.settings["packageSource"] = "/wheels/my onthefly.whl";
    editor.answers = ["Install"];
    editor.code = 1;
    await runs.run(SCRIPT);
    expect(texts()).toEqual([
      'python3 has OnTheFly 0.1.4, and 1.0.0.dev0 or newer is needed. Install it there? This runs: pip install "/wheels/my onthefly.whl"',
      "pip ended with code 1; its terminal says why. Another source can be named in the setting onthefly.packageSource.",
    ]);
    expect(editor.ran[0]?.args.at(-1)).toBe("/wheels/my onthefly.whl");
    expect(editor.launched).toEqual([]);
  });

  it("is not installed without a yes", async () => {
    says["python3"] = null;
    await runs.run(SCRIPT);
    expect([editor.ran, editor.launched]).toEqual([[], []]);
  });

  it("is never installed by its bare name, nor with an option of pip's", async () => {
    for (const source of ["onthefly-ai", "OnTheFly_AI", "onthefly", "onthefly.ai[explorer]"]) expect(() => requirement(source)).toThrow("an older system owns that name");
    expect(() => requirement("--index-url=x")).toThrow("an option of pip's");
    for (const source of ["onthefly-ai>=1.0", "./onthefly-ai", "git+https://example.org/x", "onthefly-ai==1.2"]) expect(requirement(source)).toBe(source);
    expect(requirement(" ")).toBe("onthefly-ai>=1.0");
    says["python3"] = null;
    editor.settings["packageSource"] = "onthefly-ai";
    await runs.install();
    expect(texts()[0]).toContain("names \"onthefly-ai\" without a version");
    expect(editor.ran).toEqual([]);
  });

  it("is said to be there", async () => {
    await runs.install();
    expect(texts()).toEqual(["OnTheFly 1.0.0.dev0 is installed in python3."]);
  });
});

describe("debug", () => {
  it("says what is missing without the debugger", async () => {
    await runs.debug(SCRIPT);
    expect(texts()[0]).toContain("ms-python.debugpy");
    expect(editor.debugged).toEqual([]);
  });

  it("debugs the module, with the script's interpreter and arguments", async () => {
    editor.debugger = true;
    editor.memory.set(`arguments ${SCRIPT}`, "-x");
    await runs.debug(SCRIPT);
    expect(editor.debugged[0]).toMatchObject({ type: "debugpy", module: "onthefly", args: [SCRIPT, "-x"], python: "python3", cwd: "/project", subProcess: true });
  });
});
