// What this extension asks of the editor, in its own words. `vscode.ts` is the one implementation; tests have a fake.

/** A Python document. */
export interface Script {
  path: string;
  text: string;
}

/** A line of links above a line of code. */
export interface Lens {
  line: number;
  title: string;
  tooltip: string;
  command: string;
  args: unknown[];
}

/** A row of the view of sessions. */
export interface Row {
  id: string;
  label: string;
  description: string;
  /** For a screen reader. */
  spoken: string;
  tooltip: string;
  /** A codicon, and the theme's colour for it. */
  icon: string;
  colour: string;
  /** Which actions it has. */
  kind: string;
}

export interface StatusItem {
  show(text: string, tooltip: string, command: string): void;
  hide(): void;
}

/** A program for a terminal. Nothing in a path or an argument has to be quoted. */
export interface Program {
  name: string;
  program: string;
  args: string[];
  cwd: string;
}

/** A webview. */
export interface Panel {
  readonly id: number;
  /** What a `Content-Security-Policy` must allow for files of the extension. */
  readonly source: string;
  /** The address, for this webview, of a file of the extension. */
  file(...parts: string[]): string;
  html(text: string): void;
  post(message: unknown): Promise<boolean>;
  title(text: string): void;
  reveal(): void;
  onMessage(listener: (message: unknown) => void): void;
  onClose(listener: () => void): void;
}

export type Weight = "info" | "warning" | "error";

export type Happening = "scripts" | "trust" | "settings";

export interface Editor {
  // What is open
  trusted(): boolean;
  folders(): string[];
  /** The workspace folder that a file lies in. */
  folderOf(path: string): string | undefined;
  /** Python documents that are open in an editor. */
  scripts(): Script[];
  /** The one that has the focus, or had it last. */
  activeScript(): string | undefined;
  /** False if it could not be saved. */
  save(path: string): Promise<boolean>;
  on(what: Happening, listener: () => void): void;

  // Settings and memory
  setting(name: string, path?: string): string | boolean | undefined;
  recall(key: string): unknown;
  remember(key: string, value: unknown): Promise<void>;

  // What is added to the editor
  command(id: string, handler: (...args: unknown[]) => Promise<void> | void): void;
  lenses(provide: (script: Script) => Lens[]): { refresh(): void };
  rows(view: string, provide: () => Row[]): { refresh(): void };
  statusItem(name: string): StatusItem;
  context(key: string, value: unknown): Promise<void>;
  panels(kind: string, restore: (panel: Panel, state: unknown) => void): void;
  panel(kind: string, title: string): Panel;

  // Words
  /** The chosen action, if any. */
  say(weight: Weight, text: string, ...actions: string[]): Promise<string | undefined>;
  /** A question that must be answered; false if it was closed. */
  sure(question: string, detail: string, action: string): Promise<boolean>;
  ask(title: string, prompt: string, value: string, wrong: (value: string) => string): Promise<string | undefined>;
  choose<T>(title: string, choices: { label: string; description: string; value: T }[]): Promise<T | undefined>;
  /** Where to, by a dialogue; undefined if it was closed. */
  whereTo(name: string, kinds: Record<string, string[]>): Promise<string | undefined>;
  /** Which file, likewise. */
  whereFrom(title: string, kinds: Record<string, string[]>): Promise<string | undefined>;
  write(path: string, content: Uint8Array): Promise<void>;
  log(text: string): void;

  // Other programs
  /** In a terminal of its own, which outlives a reload of the window, and the program. */
  launch(program: Program): void;
  /** To its end, in a terminal; the exit code, undefined if it was ended otherwise. */
  run(program: Program): Promise<number | undefined>;
  /** Whether an extension is installed that debugs Python. */
  debugs(): boolean;
  debug(folder: string | undefined, name: string, configuration: Record<string, unknown>): Promise<boolean>;
  /** The interpreter that was chosen in the Python extension; undefined without that extension, or a choice. */
  chosenPython(path: string | undefined): Promise<string | undefined>;
  execute(command: string, ...args: unknown[]): Promise<void>;

  // The person's browser, which may be on another machine
  /** `browser`: the editor itself runs in one. `desktop`: it runs here. `remote`: on a machine beside this one. */
  place(): "browser" | "desktop" | "remote";
  /** The address under which the person's browser reaches one of this machine. */
  external(address: string): Promise<string>;
  open(address: string): Promise<boolean>;
  copy(text: string): Promise<void>;
}
