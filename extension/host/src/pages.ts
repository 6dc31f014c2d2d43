// The dashboard's pages: each webview has a connection of its own, whose messages go to and fro here. Nothing of a page is
// believed: what it asks for is checked, and the token never goes there.
import type { Connection as State } from "../../dashboard/src/hub";
import type { ErrorAnswer, ExportRequest } from "../../dashboard/src/protocol";
import type { FromPage, ToPage } from "../../dashboard/src/wire";
import { Connection, type Answered, type Listener } from "./connection";
import type { Editor, Panel } from "./editor";
import { page } from "./page";
import { reason } from "./python";
import type { Found } from "./runtime";

export const KIND = "onthefly.dashboard";
const NEWEST = "last";
/** Messages on their way to a page that does not take them; then it is cut off until it did. */
const MAX_WAITING = 500;
const MAX_PATH = 2000;
const MAX_TITLE = 60;
/** What a page may ask the hub for: its own interface, by names and queries. */
const PATH = /^(?:hub|storage|sessions(?:\/[A-Za-z0-9]{1,16}(?:\/[a-z]+(?:\/\d+)?)?)?)(?:\?[^#\s\\]*)?$/;
/** What it may have changed. */
const CHANGES: Record<string, RegExp> = { POST: /^(?:sessions\/[A-Za-z0-9]{1,16}\/(?:pin|tags|selection)|import(?:\?trust=yes)?)$/, DELETE: /^sessions\/[A-Za-z0-9]{1,16}(?:\/tags)?$/ };
const SESSION = /^[A-Za-z0-9]{1,16}$/;
const CLIENT_MESSAGES: ReadonlySet<unknown> = new Set(["subscribe", "command", "ping"]);

interface Page {
  panel: Panel;
  connection: Connection;
  session: string;
}

export class Pages {
  private readonly pages = new Map<number, Page>();

  constructor(
    private readonly editor: Editor,
    private readonly find: () => Found,
    /** What a person can do while it stands so with the hub. */
    private readonly advice: (state: State) => string,
    private readonly save: (name: string, content: Uint8Array) => Promise<void>,
    /** A session into a file that the person names; false if they named none. */
    private readonly bundle: (session: string, wanted: ExportRequest) => Promise<boolean>,
  ) {
    editor.panels(KIND, (panel, state) => { this.add(panel, kept(state)); });
  }

  /** Show a page that follows the newest session, or one of that session. */
  show(session = NEWEST): void {
    const shown = [...this.pages.values()].find((known) => known.session === session);
    if (shown) shown.panel.reveal();
    else this.add(this.editor.panel(KIND, "OnTheFly"), session, true);
  }

  /** A hub was started. */
  hurry(): void {
    for (const { connection } of this.pages.values()) connection.hurry();
  }

  stop(): void {
    for (const { connection } of this.pages.values()) connection.stop();
  }

  private add(panel: Panel, session: string, follow = false): void {
    const post = (message: ToPage) => panel.post(message);
    const connection = new Connection(this.find, this.listener(panel, () => { connection.resume(); }, () => { connection.pause(); }));
    const added: Page = { panel, connection, session };
    this.pages.set(panel.id, added);
    panel.onClose(() => {
      connection.stop();
      this.pages.delete(panel.id);
    });
    panel.onMessage((message) => {
      const told = read(message);
      if (!told) this.editor.log("a page said what is not understood");
      else if (told.type === "start") {
        if (follow && added.session !== NEWEST) void post({ type: "follow", session: added.session });
        follow = false;
        connection.restart();
      } else void this.receive(added, told, post);
    });
    panel.html(page(panel));
  }

  private listener(panel: Panel, resume: () => void, pause: () => void): Listener {
    let waiting = 0;
    const post = (message: ToPage) => {
      if (++waiting === MAX_WAITING) pause();
      void panel.post(message).then(() => undefined, () => undefined).then(() => {
        if (--waiting === 0) resume();
      });
    };
    return {
      state: (state, hint) => { post({ type: "connection", state, hint: `${hint} ${this.advice(state)}`.trim() }); },
      text: (text) => { post({ type: "text", text }); },
      columns: (content) => { post({ type: "columns", content }); },
    };
  }

  private async receive(from: Page, told: Exclude<FromPage, { type: "start" }>, post: (message: ToPage) => Promise<boolean>): Promise<void> {
    switch (told.type) {
      case "send":
        from.connection.send(JSON.stringify(told.message));
        break;
      case "get":
        await post({ type: "got", id: told.id, ...(await this.get(from.connection, told.path)) });
        break;
      case "ask":
        await post({ type: "got", id: told.id, ...(await this.change(from.connection, told)) });
        break;
      case "bundle":
        await post({ type: "got", id: told.id, ...(await this.bundled(told.session, told.wanted)) });
        break;
      case "save":
        await this.save(told.name, new Uint8Array(told.content)).catch((error: unknown) => this.editor.say("error", `Not saved: ${reason(error)}`));
        break;
      case "shows":
        from.session = told.session;
        from.panel.title(told.name ? `${told.name.slice(0, MAX_TITLE)} - OnTheFly` : "OnTheFly");
        break;
    }
  }

  private async get(connection: Connection, path: string): Promise<Text> {
    if (path.length > MAX_PATH || !PATH.test(path)) return NOTHING;
    return text(connection.ask(path));
  }

  private async change(connection: Connection, { method, path, body }: Extract<FromPage, { type: "ask" }>): Promise<Text> {
    if (!CHANGES[method]?.test(path)) return NOTHING;
    if (typeof body !== "string") return text(connection.upload(path, new Blob([body])));
    return text(connection.ask(path, body ? (JSON.parse(body) as object) : undefined, method));
  }

  private async bundled(session: string, wanted: ExportRequest): Promise<Text> {
    if (!SESSION.test(session)) return NOTHING;
    try {
      return { ok: true, body: JSON.stringify(await this.bundle(session, wanted)) };
    } catch (error) {
      return { ok: false, body: JSON.stringify({ error: { code: "failed", message: reason(error) } } satisfies ErrorAnswer) };
    }
  }
}

/** What a page is answered. */
interface Text {
  ok: boolean;
  body: string;
}

/** Where there is no answer, or what was asked for is nothing of a page's. */
const NOTHING: Text = { ok: false, body: "" };

async function text(answer: Promise<Answered>): Promise<Text> {
  try {
    const { ok, body } = await answer;
    return { ok, body: new TextDecoder().decode(body) };
  } catch {
    return NOTHING;
  }
}

/** A page's message, if it is one. */
function read(message: unknown): FromPage | null {
  if (typeof message !== "object" || message === null) return null;
  const fields = message as Record<string, unknown>;
  const fits: Record<FromPage["type"], () => boolean> = {
    start: () => true,
    send: () => CLIENT_MESSAGES.has((fields["message"] as { type?: unknown } | null | undefined)?.type),
    get: () => typeof fields["id"] === "number" && typeof fields["path"] === "string",
    ask: () => typeof fields["id"] === "number" && typeof fields["path"] === "string" && typeof fields["method"] === "string" && Object.hasOwn(CHANGES, fields["method"]) && content(fields["body"]),
    bundle: () => typeof fields["id"] === "number" && typeof fields["session"] === "string" && typeof fields["wanted"] === "object" && fields["wanted"] !== null,
    save: () => typeof fields["name"] === "string" && fields["content"] instanceof ArrayBuffer,
    shows: () => typeof fields["session"] === "string" && typeof fields["name"] === "string",
  };
  const type = fields["type"];
  return typeof type === "string" && Object.hasOwn(fits, type) && fits[type as FromPage["type"]]() ? (message as FromPage) : null;
}

/** Bytes, or an object as JSON; empty: nothing. */
function content(body: unknown): boolean {
  if (typeof body !== "string") return body instanceof ArrayBuffer;
  try {
    return body === "" || typeof JSON.parse(body) === "object";
  } catch {
    return false;
  }
}

/** The session that a page showed before the window was reloaded. */
function kept(state: unknown): string {
  const session = (state as { session?: unknown } | null | undefined)?.session;
  return typeof session === "string" && SESSION.test(session) ? session : NEWEST;
}
