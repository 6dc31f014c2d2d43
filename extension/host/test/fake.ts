// An editor that lives in the test: what is shown is written down, what a person would answer is set before.
import type { Session } from "../../dashboard/src/protocol";
import type { Editor, Happening, Lens, Panel, Program, Row, Script, StatusItem, Weight } from "../src/editor";

export class FakePanel implements Panel {
  readonly source = "vscode-webview:";
  posted: unknown[] = [];
  shown = "";
  revealed = 0;
  tell: (message: unknown) => void = () => undefined;
  close: () => void = () => undefined;
  constructor(readonly id: number) {}
  file = (...parts: string[]) => `webview:/${parts.join("/")}`;
  html(text: string): void { this.shown = text; }
  post(message: unknown): Promise<boolean> { this.posted.push(message); return Promise.resolve(true); }
  titled = "";
  title(text: string): void { this.titled = text; }
  reveal(): void { this.revealed++; }
  onMessage(listener: (message: unknown) => void): void { this.tell = listener; }
  onClose(listener: () => void): void { this.close = listener; }
}

export class FakeEditor implements Editor {
  isTrusted = true;
  roots: string[] = ["/project"];
  documents: Script[] = [];
  active: string | undefined;
  savable = true;
  settings: Record<string, string | boolean> = { minPythonPackage: "1.0.0.dev0", codeLens: true, showDashboardOnRun: true, notify: "always" };
  memory = new Map<string, unknown>();
  commands = new Map<string, (...args: unknown[]) => Promise<void> | void>();
  contexts = new Map<string, unknown>();
  said: [Weight, string, ...string[]][] = [];
  /** What is answered to the next messages, questions and dialogues. */
  answers: unknown[] = [];
  launched: Program[] = [];
  ran: Program[] = [];
  code: number | undefined = 0;
  debugger = false;
  debugged: Record<string, unknown>[] = [];
  python: string | undefined;
  executed: unknown[][] = [];
  written = new Map<string, Uint8Array>();
  logged: string[] = [];
  status: { text: string; tooltip: string; command: string } | null = null;
  made: FakePanel[] = [];
  restore: (panel: Panel, state: unknown) => void = () => undefined;
  where: "browser" | "desktop" | "remote" = "desktop";
  outside = (address: string) => address;
  opened: string[] = [];
  copied = "";
  listeners = new Map<Happening, (() => void)[]>();
  rowsOf: () => Row[] = () => [];
  lensesOf: (script: Script) => Lens[] = () => [];
  refreshed = 0;

  trusted = () => this.isTrusted;
  folders = () => this.roots;
  folderOf = (path: string) => this.roots.find((folder) => path.startsWith(`${folder}/`));
  scripts = () => this.documents;
  activeScript = () => this.active;
  save = () => Promise.resolve(this.savable);
  on(what: Happening, listener: () => void): void { this.listeners.set(what, [...(this.listeners.get(what) ?? []), listener]); }
  happen(what: Happening): void { for (const listener of this.listeners.get(what) ?? []) listener(); }
  setting = (name: string) => this.settings[name];
  recall = (key: string) => this.memory.get(key);
  remember(key: string, value: unknown): Promise<void> { this.memory.set(key, value); return Promise.resolve(); }
  command(id: string, handler: (...args: unknown[]) => Promise<void> | void): void { this.commands.set(id, handler); }
  lenses(provide: (script: Script) => Lens[]) { this.lensesOf = provide; return { refresh: () => { this.refreshed++; } }; }
  rows(_: string, provide: () => Row[]) { this.rowsOf = provide; return { refresh: () => { this.refreshed++; } }; }
  statusItem(): StatusItem {
    return { show: (text, tooltip, command) => { this.status = { text, tooltip, command }; }, hide: () => { this.status = null; } };
  }
  context(key: string, value: unknown): Promise<void> { this.contexts.set(key, value); return Promise.resolve(); }
  panels(_: string, restore: (panel: Panel, state: unknown) => void): void { this.restore = restore; }
  panel(): Panel {
    const panel = new FakePanel(this.made.length);
    this.made.push(panel);
    return panel;
  }
  say(weight: Weight, text: string, ...actions: string[]): Promise<string | undefined> {
    this.said.push([weight, text, ...actions]);
    return Promise.resolve(actions.length ? (this.answers.shift() as string | undefined) : undefined);
  }
  sure = () => Promise.resolve(this.answers.shift() === true);
  ask = () => Promise.resolve(this.answers.shift() as string | undefined);
  choose<T>(_: string, choices: { value: T }[]): Promise<T | undefined> { return Promise.resolve(choices[this.answers.shift() as number]?.value); }
  whereTo = () => Promise.resolve(this.answers.shift() as string | undefined);
  whereFrom = () => Promise.resolve(this.answers.shift() as string | undefined);
  write(path: string, content: Uint8Array): Promise<void> { this.written.set(path, content); return Promise.resolve(); }
  log(text: string): void { this.logged.push(text); }
  launch(program: Program): void { this.launched.push(program); }
  run(program: Program): Promise<number | undefined> { this.ran.push(program); return Promise.resolve(this.code); }
  debugs = () => this.debugger;
  debug(_: string | undefined, __: string, configuration: Record<string, unknown>): Promise<boolean> { this.debugged.push(configuration); return Promise.resolve(true); }
  chosenPython = () => Promise.resolve(this.python);
  execute(...words: unknown[]): Promise<void> { this.executed.push(words); return Promise.resolve(); }
  place = () => this.where;
  external = (address: string) => Promise.resolve(this.outside(address));
  open(address: string): Promise<boolean> { this.opened.push(address); return Promise.resolve(true); }
  copy(text: string): Promise<void> { this.copied = text; return Promise.resolve(); }
}

export function session(changes: Partial<Session> = {}): Session {
  return {
    id: "k3f9q2ma", name: "train.py", project: "", script: "/project/train.py", argv: [], cwd: "/project", run: "baseline", state: "running",
    since: 0, by: "", reason: "", started: 0, ended: null, step: 1200, epoch: 1, backwards: 1200, samples: 384, loss: 0.5,
    step_ms: 2, onthefly_us: 20, world_size: 1, ranks: [], notices: [], versions: {}, ...changes,
  };
}
