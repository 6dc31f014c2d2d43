// The dashboard's pages: each webview has a connection of its own, whose messages go to and fro here. Nothing of a page is
// believed: what it asks for is checked, and the token never goes there.
import type { Connection as State } from "../../dashboard/src/hub";
import type { FromPage, ToPage } from "../../dashboard/src/wire";
import { Connection, type Listener } from "./connection";
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
const PATH = /^(?:hub|sessions(?:\/[A-Za-z0-9]{1,16}(?:\/[a-z]+(?:\/\d+)?)?)?)(?:\?[^#\s\\]*)?$/;
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
      case "save":
        await this.save(told.name, new Uint8Array(told.content)).catch((error: unknown) => this.editor.say("error", `Not saved: ${reason(error)}`));
        break;
      case "shows":
        from.session = told.session;
        from.panel.title(told.name ? `${told.name.slice(0, MAX_TITLE)} - OnTheFly` : "OnTheFly");
        break;
    }
  }

  private async get(connection: Connection, path: string): Promise<{ ok: boolean; body: string }> {
    if (path.length > MAX_PATH || !PATH.test(path)) return { ok: false, body: "" };
    try {
      const { ok, body } = await connection.ask(path);
      return { ok, body: new TextDecoder().decode(body) };
    } catch {
      return { ok: false, body: "" };
    }
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
    save: () => typeof fields["name"] === "string" && fields["content"] instanceof ArrayBuffer,
    shows: () => typeof fields["session"] === "string" && typeof fields["name"] === "string",
  };
  const type = fields["type"];
  return typeof type === "string" && Object.hasOwn(fits, type) && fits[type as FromPage["type"]]() ? (message as FromPage) : null;
}

/** The session that a page showed before the window was reloaded. */
function kept(state: unknown): string {
  const session = (state as { session?: unknown } | null | undefined)?.session;
  return typeof session === "string" && /^[A-Za-z0-9]{1,16}$/.test(session) ? session : NEWEST;
}
