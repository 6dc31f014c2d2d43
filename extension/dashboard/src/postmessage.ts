// The editor's way to the hub: messages to the extension host, which holds the token and speaks to the hub for the page.
import { decodeColumns } from "./columns";
import { NotServed, type Connection, type Hub, type Listener } from "./hub";
import type { ClientMessage, ErrorAnswer, ExportRequest, HubEvent } from "./protocol";
import type { FromPage, Kept, ToPage } from "./wire";

/** What the editor gives a webview. */
export interface Webview {
  postMessage(message: FromPage, transfer?: Transferable[]): void;
  getState(): unknown;
  setState(state: Kept): void;
}

const ANSWER_MS = 30_000;

interface Question {
  resolve: (body: unknown) => void;
  reject: (reason: Error) => void;
  timer: ReturnType<typeof setTimeout> | undefined;
}

export class EditorHub implements Hub {
  /** The editor asks to show that session. */
  onFollow: (session: string) => void = () => undefined;

  private state: Connection = "connecting";
  private readonly questions = new Map<number, Question>();
  private asked = 0;

  constructor(
    private readonly webview: Webview,
    private readonly window: Window,
  ) {}

  start(listener: Listener): void {
    this.window.addEventListener("message", ({ data, origin }: MessageEvent<unknown>) => {
      // The editor's frame around this one has the same origin; whoever else posts here is nobody.
      if (origin === this.window.origin) this.receive(data as ToPage, listener);
    });
    this.webview.postMessage({ type: "start" });
  }

  send(message: ClientMessage): boolean {
    if (this.state !== "open") return false;
    this.webview.postMessage({ type: "send", message });
    return true;
  }

  get(path: string): Promise<unknown> {
    return this.question((id) => ({ type: "get", id, path }), ANSWER_MS);
  }

  async ask(method: "POST" | "DELETE", path: string, body?: object): Promise<unknown> {
    if (!(body instanceof Blob)) return this.question((id) => ({ type: "ask", id, method, path, body: body ? JSON.stringify(body) : "" }), ANSWER_MS);
    const bytes = await body.arrayBuffer();
    return this.question((id) => ({ type: "ask", id, method, path, body: bytes }));
  }

  async bundle(session: string, wanted: ExportRequest): Promise<boolean> {
    return (await this.question((id) => ({ type: "bundle", id, session, wanted }))) === true;
  }

  /** The host asks where to; a webview has no downloads. */
  async save(name: string, content: Blob): Promise<void> {
    const bytes = await content.arrayBuffer();
    this.webview.postMessage({ type: "save", name, content: bytes });
  }

  /** Post it, and wait for the answer: so long at most, or for ever where a person may be asked meanwhile. */
  private question(message: (id: number) => FromPage, milliseconds?: number): Promise<unknown> {
    const id = ++this.asked;
    return new Promise((resolve, reject) => {
      const timer = milliseconds === undefined ? undefined : setTimeout(() => { this.answer(id, false, ""); }, milliseconds);
      this.questions.set(id, { resolve, reject, timer });
      this.webview.postMessage(message(id));
    });
  }

  private receive(message: ToPage, listener: Listener): void {
    switch (message.type) {
      case "connection":
        this.state = message.state;
        listener.connection(message.state, message.hint);
        break;
      case "text":
        listener.event(JSON.parse(message.text) as HubEvent);
        break;
      case "columns":
        listener.columns(decodeColumns(message.content));
        break;
      case "got":
        this.answer(message.id, message.ok, message.body);
        break;
      case "follow":
        this.onFollow(message.session);
        break;
    }
  }

  private answer(id: number, ok: boolean, body: string): void {
    const question = this.questions.get(id);
    if (!question) return;
    this.questions.delete(id);
    clearTimeout(question.timer);
    if (ok) question.resolve(JSON.parse(body));
    else question.reject(body ? new NotServed((JSON.parse(body) as ErrorAnswer).error) : new Error("no answer"));
  }
}
