// One connection to the hub, for the editor's own parts or for one page: found by the hub's file, proven before the token is
// sent, made again whenever it was lost.
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import type { Connection as State } from "../../dashboard/src/hub";
import { address, type Found, type HubFile } from "./runtime";

const LOOK_MS = 500;
const PING_MS = 2500;
/** Without any message for so long (pings are answered), the hub counts as gone although its socket is open. */
const SILENT_MS = 8000;
const ASK_MS = 30_000;
const PROVE_MS = 3000;
/** A bundle's media type. */
const BUNDLE = "application/zip";
const LONGEST_RETRY = 5000;
/** The hub's limit for a client's message. */
const MAX_MESSAGE = 64 * 1024;
/** A socket's state, by the standard. */
const OPEN = 1;
const PROOF_HEADER = "X-OnTheFly-Proof";

export interface Listener {
  state(state: State, hint: string): void;
  text(text: string): void;
  columns(content: ArrayBuffer): void;
}

/** What the hub answered to a request. */
export interface Answered {
  ok: boolean;
  body: ArrayBuffer;
}

export class Connection {
  private socket: WebSocket | null = null;
  private hub: HubFile | null = null;
  private timer: NodeJS.Timeout | undefined;
  private tried = "";
  private retry = LOOK_MS;
  private waits = 0;
  private told = "";
  private everOpen = false;
  private stopped = false;
  private held = false;
  /** Counts attempts: one that was overtaken while it waited gives up. */
  private attempt = 0;

  constructor(
    private readonly find: () => Found,
    private readonly listener: Listener,
  ) {}

  /** Look for the hub, now and for ever. */
  start(): void {
    void this.look();
  }

  stop(): void {
    this.stopped = true;
    clearTimeout(this.timer);
    this.leave();
  }

  /** Tell everything anew: who listens has lost it. */
  restart(): void {
    if (this.stopped) return;
    clearTimeout(this.timer);
    this.leave();
    this.told = "";
    this.tried = "";
    this.held = false;
    void this.look();
  }

  /** Hear nothing until `resume`: who listens does not keep up. */
  pause(): void {
    this.held = true;
    clearTimeout(this.timer);
    this.leave();
  }

  resume(): void {
    if (this.held) this.restart();
  }

  /** Look at once, and tell again what was found: somebody started a hub, or it is known now why not. */
  hurry(): void {
    if (this.stopped || this.held || this.hub) return;
    this.waits = 0;
    this.told = "";
    clearTimeout(this.timer);
    void this.look();
  }

  /** Whether the hub was reached. */
  get open(): boolean {
    return this.socket?.readyState === OPEN;
  }

  /** Resolves when the hub is reached; an `Error` after a while. */
  async reached(milliseconds = 10_000): Promise<void> {
    const limit = Date.now() + milliseconds;
    while (!this.open) {
      if (Date.now() > limit) throw new Error("the hub does not answer");
      await new Promise((resume) => setTimeout(resume, 50));
    }
  }

  send(text: string): boolean {
    if (!this.open || text.length > MAX_MESSAGE) return false;
    this.socket?.send(text);
    return true;
  }

  /** A request of the hub's HTTP interface; `body` makes it a POST. An `Error` where there is no answer. */
  async ask(path: string, body?: object, method = body ? "POST" : "GET"): Promise<Answered> {
    const answer = await this.request(path, { method, ...(method !== "GET" && json(body)), signal: AbortSignal.timeout(ASK_MS) });
    return { ok: answer.ok, body: await answer.arrayBuffer() };
  }

  /** The same with bytes either way: of a bundle nobody knows how long it takes, nor does it have to fit into memory. */
  async upload(path: string, content: Blob | ReadableStream<Uint8Array>): Promise<Answered> {
    const answer = await this.request(path, { method: "POST", body: content, duplex: "half", headers: { "Content-Type": BUNDLE } });
    return { ok: answer.ok, body: await answer.arrayBuffer() };
  }

  async download(path: string, body: object): Promise<Response> {
    return this.request(path, { method: "POST", ...json(body) });
  }

  private async request(path: string, options: Omit<RequestInit, "headers"> & { headers?: Record<string, string>; duplex?: "half" }): Promise<Response> {
    if (!this.hub) throw new Error("the hub is not connected");
    const headers = { ...options.headers, Authorization: `Bearer ${this.hub.token}` };
    return fetch(new URL(`api/v1/${path}`, address(this.hub)), { ...options, headers, redirect: "error" });
  }

  /** The hub that is connected. */
  get file(): HubFile | null {
    return this.open ? this.hub : null;
  }

  private async look(): Promise<void> {
    const attempt = ++this.attempt;
    const found = this.find();
    if (!found.hub) this.tell(found.reason);
    else if (this.due(found.hub)) {
      const wrong = await prove(found.hub);
      if (attempt !== this.attempt) return;
      if (!wrong && this.converse(found.hub)) return;
      this.wait();
      this.tell(wrong || "This editor is too old: OnTheFly needs VS Code 1.102 or newer.");
    }
    this.later();
  }

  /** Whether to try that hub now: another one at once, the same one ever more seldom. */
  private due({ pid, port, token }: HubFile): boolean {
    const key = `${pid} ${port} ${token}`;
    if (key === this.tried && Date.now() < this.waits) return false;
    if (key !== this.tried) this.retry = LOOK_MS;
    this.tried = key;
    return true;
  }

  private later(): void {
    this.timer = setTimeout(() => void this.look(), LOOK_MS);
  }

  private wait(): void {
    this.waits = Date.now() + this.retry;
    this.retry = Math.min(2 * this.retry, LONGEST_RETRY);
  }

  /** Each thing once: it is looked for twice a second. */
  private tell(hint: string): void {
    if (hint === this.told) return;
    this.listener.state(this.everOpen ? "lost" : "connecting", hint);
    this.told = hint;
  }

  /** False where the editor has no WebSockets. */
  private converse(hub: HubFile): boolean {
    if (typeof WebSocket !== "function") return false;
    const socket = new WebSocket(new URL("api/v1/ws", address(hub).replace("http", "ws")), ["onthefly.v1", `onthefly.token.${hub.token}`]);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.hub = hub;
    let heard = Date.now();
    const pings = setInterval(() => {
      if (Date.now() - heard > SILENT_MS) gone("The hub does not answer.");
      else this.send('{"type": "ping"}');
    }, PING_MS);
    const gone = (why: string) => {
      clearInterval(pings);
      if (this.socket !== socket) return;
      this.leave();
      this.wait();
      this.told = "";
      this.tell(why);
      this.later();
    };
    socket.onopen = () => {
      this.retry = LOOK_MS;
      this.told = "";
      this.everOpen = true;
      this.listener.state("open", "");
    };
    socket.onmessage = (event) => {
      const data = event.data as string | ArrayBuffer;
      heard = Date.now();
      if (typeof data === "string") this.listener.text(data);
      else this.listener.columns(data);
    };
    socket.onclose = ({ code, reason }) => { gone(code === 1013 ? `The hub is full: ${reason}.` : "The hub is gone; this tries again by itself."); };
    socket.onerror = () => { gone("The hub does not answer; this tries again by itself."); };
    return true;
  }

  private leave(): void {
    this.attempt++;
    const socket = this.socket;
    this.socket = null;
    this.hub = null;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
      socket.close();
    }
  }
}

function json(body?: object): { body?: string; headers: Record<string, string> } {
  return { ...(body && { body: JSON.stringify(body) }), headers: { "Content-Type": "application/json" } };
}

/** Why what answers there is not the hub of that file; empty if it is. The token goes to nobody who cannot show it. */
async function prove(hub: HubFile): Promise<string> {
  const nonce = randomBytes(32);
  const due = createHmac("sha256", hub.token).update(Buffer.concat([Buffer.from("onthefly:healthz:"), nonce])).digest();
  try {
    const answer = await fetch(new URL(`healthz?nonce=${nonce.toString("hex")}`, address(hub)), { redirect: "error", signal: AbortSignal.timeout(PROVE_MS) });
    const given = Buffer.from(answer.headers.get(PROOF_HEADER) ?? "", "hex");
    if (given.length === due.length && timingSafeEqual(given, due)) return "";
    return `What answers on port ${hub.port} is not the hub. Stop it, or remove hub.json from the runtime folder.`;
  } catch {
    return "The hub does not answer; this tries again by itself.";
  }
}
