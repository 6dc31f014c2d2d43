// Puts the parts together, against the editor as this extension sees it.
import * as path from "node:path";
import type { Connection as State } from "../../dashboard/src/hub";
import type { Session } from "../../dashboard/src/protocol";
import { Actions } from "./actions";
import { Bundles } from "./bundles";
import { openInBrowser } from "./browser";
import type { Editor } from "./editor";
import { exportRecords } from "./exports";
import { startHub } from "./hubs";
import { notice } from "./notices";
import { Pages } from "./pages";
import { Python, reason, type Execute } from "./python";
import { row } from "./rows";
import { findHub, type Environment, type Found } from "./runtime";
import { Runs } from "./runs";
import { live, Sessions } from "./sessions";
import { Status } from "./status";

const VIEW = "onthefly.sessions";
const ROWS_MS = 300;
const FIGURES_MS = 3000;

export class OnTheFly {
  readonly sessions: Sessions;
  readonly pages: Pages;
  private readonly runs: Runs;
  private readonly actions: Actions;
  private readonly bundles: Bundles;
  private readonly python: Python;
  /** Why the hub that was asked for did not start. */
  private trouble = "";
  private relens: () => void = () => undefined;

  constructor(
    private readonly editor: Editor,
    private readonly execute: Execute,
    private readonly env: Environment,
  ) {
    const find = (): Found => findHub(env);
    this.python = new Python(editor, execute);
    this.sessions = new Sessions(find);
    this.pages = new Pages(editor, find, (state) => this.advice(state), (name, content) => this.save(name, content), (session, wanted) => this.bundles.save(session, wanted));
    this.runs = new Runs(editor, this.python, () => { this.pages.show(); }, () => { this.relens(); });
    this.actions = new Actions(editor, this.sessions);
    this.bundles = new Bundles(editor, this.sessions, (id) => { this.pages.show(id); });
  }

  start(): void {
    const { editor, sessions } = this;
    new Status(editor, sessions);
    const lenses = editor.lenses((script) => this.runs.lenses(script));
    this.relens = () => { lenses.refresh(); };
    editor.on("settings", this.relens);
    this.view();
    sessions.onEnd((session) => void this.guard("notice", () => notice(session, editor, (id) => { this.pages.show(id); }))());
    const mark = () => void this.guard("scripts", () => editor.context("onthefly.scripts", this.runs.training()))();
    for (const what of ["scripts", "settings"] as const) editor.on(what, mark);
    editor.on("trust", () => {
      this.trouble = "";
      this.pages.hurry();
    });
    mark();
    this.commands();
    sessions.connection.start();
  }

  stop(): void {
    this.sessions.connection.stop();
    this.pages.stop();
  }

  private commands(): void {
    const { actions, bundles, runs } = this;
    const of = (purpose: string, work: (session: Session) => Promise<void>, fits: (session: Session) => boolean = () => true) => async (given: unknown) => {
      const session = await actions.session(purpose, given, fits);
      if (session) await work(session);
    };
    const all: Record<string, (given: unknown) => Promise<void>> = {
      run: (given) => runs.run(file(given)),
      debug: (given) => runs.debug(file(given)),
      runWithArguments: (given) => runs.runWithArguments(file(given)),
      showDashboard: (given) => this.showDashboard(given),
      openInBrowser: () => this.browse(),
      pause: (given) => actions.pause(given),
      resume: (given) => actions.resume(given),
      step: (given) => actions.step(given),
      checkpoint: (given) => actions.checkpoint(given),
      stop: (given) => actions.stop(given),
      toggle: () => actions.toggle(),
      reset: (given) => actions.reset(given),
      export: of("export", (session) => exportRecords(session, this.sessions, this.editor)),
      exportBundle: of("export", (session) => bundles.export(session)),
      importBundle: () => this.import(),
      copyResume: of("resume", (session) => bundles.copyResume(session)),
      delete: of("delete", (session) => bundles.remove(session), (session) => !live(session)),
      install: () => runs.install(),
      getStarted: () => this.editor.execute("workbench.action.openWalkthrough", "onthefly.onthefly#start", false),
    };
    for (const [name, handler] of Object.entries(all)) this.editor.command(`onthefly.${name}`, (given) => this.guard(name, () => handler(given))());
  }

  /** A fault of ours is told and logged; it never reaches the editor. */
  private guard(name: string, work: () => Promise<void>): () => Promise<void> {
    return async () => {
      try {
        await work();
      } catch (error) {
        this.editor.log(`${name}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
        await this.editor.say("error", `OnTheFly: ${reason(error)}`);
      }
    };
  }

  private async showDashboard(given: unknown): Promise<void> {
    const id = (given as { id?: unknown } | null | undefined)?.id;
    this.pages.show(typeof id === "string" ? id : undefined);
    await this.ensureHub();
  }

  /** Start a hub where none runs; what stands in the way is said, and shown on the page. True if one runs. */
  private async ensureHub(): Promise<boolean> {
    if (findHub(this.env).hub) return true;
    if (!this.editor.trusted()) {
      this.trouble = "This workspace is not trusted, so none is started from here: trust it, or start one in a terminal with: onthefly dashboard";
      this.pages.hurry();
      return false;
    }
    const script = this.editor.activeScript();
    const python = await this.runs.usable(script);
    if (python === undefined) {
      this.trouble = "The Python package is needed to start one: run the command “OnTheFly: Install the Python Package…”.";
      this.pages.hurry();
      return false;
    }
    this.trouble = "";
    try {
      await startHub(this.execute, python, this.python.folder(script));
    } catch (error) {
      this.trouble = `It could not be started: ${reason(error)}`;
      await this.editor.say("error", `The hub could not be started: ${reason(error)}`);
    }
    this.pages.hurry();
    this.sessions.connection.hurry();
    return findHub(this.env).hub !== null;
  }

  private advice(state: State): string {
    if (state === "open") return "Choose “Run with OnTheFly” above a script that trains, or at the upper right of its editor.";
    if (findHub(this.env).hub) return "";
    return this.trouble || "It starts with the next script that is run with OnTheFly, or by the command “OnTheFly: Show Dashboard”.";
  }

  private async browse(): Promise<void> {
    if (!(await this.ensureHub())) {
      if (this.trouble) await this.editor.say("warning", `No hub is running. ${this.trouble}`);
      return;
    }
    await this.sessions.connection.reached();
    await openInBrowser(this.sessions.connection, this.editor, this.env);
  }

  private async import(): Promise<void> {
    if (await this.ensureHub()) {
      await this.sessions.connection.reached();
      await this.bundles.import();
    } else if (this.trouble) await this.editor.say("warning", `No hub is running. ${this.trouble}`);
  }

  /** A file that a page made. */
  private async save(name: string, content: Uint8Array): Promise<void> {
    const ending = path.extname(name).slice(1);
    const place = await this.editor.whereTo(path.basename(name), { [ending.toUpperCase()]: [ending] });
    if (place) await this.editor.write(place, content);
  }

  /** The view of sessions: soon where one is new or in another state, every few seconds where only its figures moved. */
  private view(): void {
    let [drawn, at] = ["", 0];
    const shown = () => (this.sessions.connected ? this.sessions.all : []);
    const view = this.editor.rows(VIEW, () => shown().map(row));
    let timer: NodeJS.Timeout | undefined;
    const look = () => {
      timer = undefined;
      const now = JSON.stringify(shown().map(({ id, state, name }) => [id, state, name]));
      if (now === drawn && Date.now() < at + FIGURES_MS) timer = setTimeout(look, ROWS_MS);
      else {
        [drawn, at] = [now, Date.now()];
        view.refresh();
      }
    };
    this.sessions.onChange(() => { timer ??= setTimeout(look, ROWS_MS); });
  }
}

/** The path that a command was given: by a code lens as text, by a menu as the editor's address of a file. */
function file(given: unknown): string | undefined {
  if (typeof given === "string") return given;
  const place = (given as { fsPath?: unknown } | null | undefined)?.fsPath;
  return typeof place === "string" ? place : undefined;
}
