// The one file that speaks to VS Code: `Editor` in terms of its API.
import * as vscode from "vscode";
import { held } from "./shell";
import type { Editor, Happening, Lens, Panel, Program, Row, Script, StatusItem, Weight } from "./editor";

const PYTHON = "ms-python.python";
const DEBUGGERS = ["ms-python.debugpy", PYTHON];
const CHOICE_MS = 10_000;

/** What the Python extension exports, as far as it is used here. */
interface PythonApi {
  environments?: {
    getActiveEnvironmentPath(resource?: vscode.Uri): { path: string };
    resolveEnvironment(path: { path: string }): Promise<{ executable: { uri?: vscode.Uri } } | undefined>;
  };
}

export class VsCode implements Editor {
  private readonly output: vscode.LogOutputChannel;
  private lastScript: string | undefined;
  private panels_ = 0;

  constructor(private readonly own_: vscode.ExtensionContext) {
    this.output = vscode.window.createOutputChannel("OnTheFly", { log: true });
    this.own(this.output);
    const note = (shown: vscode.TextEditor | undefined) => {
      if (shown && isScript(shown.document)) this.lastScript = shown.document.uri.fsPath;
    };
    note(vscode.window.activeTextEditor);
    this.own(vscode.window.onDidChangeActiveTextEditor(note));
  }

  trusted = () => vscode.workspace.isTrusted;
  folders = () => (vscode.workspace.workspaceFolders ?? []).map(({ uri }) => uri.fsPath);
  folderOf = (place: string) => vscode.workspace.getWorkspaceFolder(vscode.Uri.file(place))?.uri.fsPath;

  scripts(): Script[] {
    const shown = vscode.window.visibleTextEditors.map(({ document }) => document).filter(isScript);
    return [...new Set(shown)].map(script);
  }

  activeScript(): string | undefined {
    const active = vscode.window.activeTextEditor;
    if (active) return isScript(active.document) ? active.document.uri.fsPath : undefined;
    const last = vscode.window.visibleTextEditors.find(({ document }) => document.uri.fsPath === this.lastScript);
    return last?.document.uri.fsPath;
  }

  async save(place: string): Promise<boolean> {
    const open = vscode.workspace.textDocuments.find(({ uri }) => uri.scheme === "file" && uri.fsPath === place);
    return !open?.isDirty || open.save();
  }

  on(what: Happening, listener: () => void): void {
    if (what === "trust") this.own(vscode.workspace.onDidGrantWorkspaceTrust(listener));
    else if (what === "settings") {
      this.own(vscode.workspace.onDidChangeConfiguration((event) => { if (event.affectsConfiguration("onthefly")) listener(); }));
    } else {
      this.own(vscode.window.onDidChangeVisibleTextEditors(listener));
      this.own(vscode.workspace.onDidChangeTextDocument(({ document }) => { if (isScript(document)) listener(); }));
    }
  }

  setting(name: string, place?: string): string | boolean | undefined {
    return vscode.workspace.getConfiguration("onthefly", place === undefined ? null : vscode.Uri.file(place)).get<string | boolean>(name);
  }

  recall = (key: string): unknown => this.own_.workspaceState.get(key);

  async remember(key: string, value: unknown): Promise<void> {
    await this.own_.workspaceState.update(key, value);
  }

  command(id: string, handler: (...args: unknown[]) => Promise<void> | void): void {
    this.own(vscode.commands.registerCommand(id, handler));
  }

  lenses(provide: (script: Script) => Lens[]): { refresh(): void } {
    const changed = new vscode.EventEmitter<void>();
    this.own(changed);
    this.own(vscode.languages.registerCodeLensProvider({ language: "python", scheme: "file" }, {
      onDidChangeCodeLenses: changed.event,
      provideCodeLenses: (document) => provide(script(document)).map(({ line, title, tooltip, command, args }) =>
        new vscode.CodeLens(new vscode.Range(line, 0, line, 0), { title, tooltip, command, arguments: args })),
    }));
    return { refresh: () => { changed.fire(); } };
  }

  rows(view: string, provide: () => Row[]): { refresh(): void } {
    const changed = new vscode.EventEmitter<void>();
    this.own(changed);
    this.own(vscode.window.registerTreeDataProvider<Row>(view, {
      onDidChangeTreeData: changed.event,
      getChildren: (parent) => (parent ? [] : provide()),
      getTreeItem: treeItem,
    }));
    return { refresh: () => { changed.fire(); } };
  }

  statusItem(name: string): StatusItem {
    const item = vscode.window.createStatusBarItem("session", vscode.StatusBarAlignment.Left, 0);
    item.name = name;
    this.own(item);
    return {
      show: (text, tooltip, command) => {
        Object.assign(item, { text, tooltip, command });
        item.show();
      },
      hide: () => { item.hide(); },
    };
  }

  async context(key: string, value: unknown): Promise<void> {
    await vscode.commands.executeCommand("setContext", key, value);
  }

  panels(kind: string, restore: (panel: Panel, state: unknown) => void): void {
    this.own(vscode.window.registerWebviewPanelSerializer(kind, {
      deserializeWebviewPanel: (shown, state) => {
        restore(this.wrap(shown), state);
        return Promise.resolve();
      },
    }));
  }

  panel(kind: string, title: string): Panel {
    const beside = vscode.window.activeTextEditor ? vscode.ViewColumn.Beside : vscode.ViewColumn.Active;
    return this.wrap(vscode.window.createWebviewPanel(kind, title, { viewColumn: beside, preserveFocus: true }, { retainContextWhenHidden: true }));
  }

  async say(weight: Weight, text: string, ...actions: string[]): Promise<string | undefined> {
    this.output.info(text);
    if (weight === "error") return vscode.window.showErrorMessage(text, ...actions);
    if (weight === "warning") return vscode.window.showWarningMessage(text, ...actions);
    return vscode.window.showInformationMessage(text, ...actions);
  }

  async sure(question: string, detail: string, action: string): Promise<boolean> {
    return (await vscode.window.showWarningMessage(question, { modal: true, detail }, action)) === action;
  }

  async ask(title: string, prompt: string, value: string, wrong: (value: string) => string): Promise<string | undefined> {
    return vscode.window.showInputBox({ title, prompt, value, ignoreFocusOut: true, validateInput: wrong });
  }

  async choose<T>(title: string, choices: { label: string; description: string; value: T }[]): Promise<T | undefined> {
    return (await vscode.window.showQuickPick(choices, { title, matchOnDescription: true }))?.value;
  }

  async whereTo(name: string, kinds: Record<string, string[]>): Promise<string | undefined> {
    const folder = vscode.workspace.workspaceFolders?.[0]?.uri;
    const chosen = await vscode.window.showSaveDialog({ filters: kinds, ...(folder && { defaultUri: vscode.Uri.joinPath(folder, name) }) });
    return chosen?.fsPath;
  }

  async whereFrom(title: string, kinds: Record<string, string[]>): Promise<string | undefined> {
    return (await vscode.window.showOpenDialog({ title, filters: kinds }))?.[0]?.fsPath;
  }

  async write(place: string, content: Uint8Array): Promise<void> {
    await vscode.workspace.fs.writeFile(vscode.Uri.file(place), content);
  }

  log(text: string): void {
    this.output.info(text);
  }

  // No task: the terminal of one is lost, and with it the script, when the window is reloaded.
  launch({ name, program, args, cwd }: Program): void {
    const shell = held(program, args);
    const iconPath = new vscode.ThemeIcon("graph-line");
    vscode.window.createTerminal({ name, cwd, iconPath, shellPath: shell.path, shellArgs: shell.args }).show(true);
  }

  async run({ name, program, args, cwd }: Program): Promise<number | undefined> {
    const folder = vscode.workspace.getWorkspaceFolder(vscode.Uri.file(cwd));
    const scope = folder ?? vscode.TaskScope.Global;
    const kind = { type: "onthefly", started: Date.now() };
    const task = new vscode.Task(kind, scope, name, "OnTheFly", new vscode.ProcessExecution(program, args, { cwd }), []);
    task.presentationOptions = { reveal: vscode.TaskRevealKind.Always, focus: false, echo: true, clear: false, showReuseMessage: false };
    const execution = await vscode.tasks.executeTask(task);
    return this.ended(execution);
  }

  debugs = () => DEBUGGERS.some((id) => vscode.extensions.getExtension(id) !== undefined);

  async debug(folder: string | undefined, name: string, configuration: Record<string, unknown>): Promise<boolean> {
    const open = folder === undefined ? undefined : vscode.workspace.getWorkspaceFolder(vscode.Uri.file(folder));
    return vscode.debug.startDebugging(open, { ...configuration, name, type: "debugpy", request: "launch" });
  }

  async chosenPython(place: string | undefined): Promise<string | undefined> {
    const extension = vscode.extensions.getExtension<PythonApi>(PYTHON);
    if (!extension) return undefined;
    try {
      return await within(CHOICE_MS, this.resolve(extension, place));
    } catch (error) {
      this.output.warn(`the Python extension did not say which interpreter is chosen: ${String(error)}`);
      return undefined;
    }
  }

  async execute(command: string, ...args: unknown[]): Promise<void> {
    await vscode.commands.executeCommand(command, ...args);
  }

  place(): "browser" | "desktop" | "remote" {
    if (vscode.env.uiKind === vscode.UIKind.Web) return "browser";
    return vscode.env.remoteName === undefined ? "desktop" : "remote";
  }

  async external(address: string): Promise<string> {
    return (await vscode.env.asExternalUri(vscode.Uri.parse(address, true))).toString(true);
  }

  async open(address: string): Promise<boolean> {
    return vscode.env.openExternal(vscode.Uri.parse(address, true));
  }

  async copy(text: string): Promise<void> {
    await vscode.env.clipboard.writeText(text);
  }

  private own(thing: { dispose(): unknown }): void {
    this.own_.subscriptions.push(thing);
  }

  private async resolve(extension: vscode.Extension<PythonApi>, place: string | undefined): Promise<string | undefined> {
    const { environments } = extension.isActive ? extension.exports : await extension.activate();
    if (!environments) return undefined;
    const chosen = environments.getActiveEnvironmentPath(place === undefined ? undefined : vscode.Uri.file(place));
    return (await environments.resolveEnvironment(chosen))?.executable.uri?.fsPath;
  }

  private ended(execution: vscode.TaskExecution): Promise<number | undefined> {
    return new Promise((resolve) => {
      const listening = [
        vscode.tasks.onDidEndTaskProcess((event) => { if (event.execution === execution) end(event.exitCode); }),
        vscode.tasks.onDidEndTask((event) => { if (event.execution === execution) end(undefined); }),
      ];
      const end = (code: number | undefined) => {
        for (const one of listening) one.dispose();
        resolve(code);
      };
    });
  }

  private wrap(shown: vscode.WebviewPanel): Panel {
    const { webview } = shown;
    webview.options = { enableScripts: true, localResourceRoots: [vscode.Uri.joinPath(this.own_.extensionUri, "dist", "dashboard")] };
    shown.iconPath = vscode.Uri.joinPath(this.own_.extensionUri, "media", "icon.png");
    return {
      id: ++this.panels_,
      source: webview.cspSource,
      file: (...parts) => webview.asWebviewUri(vscode.Uri.joinPath(this.own_.extensionUri, ...parts)).toString(),
      html: (text) => { webview.html = text; },
      post: async (message) => webview.postMessage(message),
      title: (text) => { shown.title = text; },
      reveal: () => { shown.reveal(undefined, true); },
      onMessage: (listener) => { this.own(webview.onDidReceiveMessage(listener)); },
      onClose: (listener) => { this.own(shown.onDidDispose(listener)); },
    };
  }
}

function isScript({ languageId, uri }: vscode.TextDocument): boolean {
  return languageId === "python" && uri.scheme === "file";
}

function script(document: vscode.TextDocument): Script {
  return { path: document.uri.fsPath, text: document.getText() };
}

function treeItem({ id, label, description, spoken, tooltip, icon, colour, kind }: Row): vscode.TreeItem {
  const item = new vscode.TreeItem(label);
  item.iconPath = new vscode.ThemeIcon(icon, new vscode.ThemeColor(colour));
  return Object.assign(item, { id, description, tooltip, contextValue: kind, accessibilityInformation: { label: spoken } });
}

async function within<T>(milliseconds: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => { timer = setTimeout(() => { reject(new Error("no answer")); }, milliseconds); });
  return Promise.race([work, late]).finally(() => { clearTimeout(timer); });
}
