// The browser's way to the hub: one WebSocket for what is new, HTTP for what is asked.
import { decodeColumns } from "./columns";
import { download } from "./download";
import { NotServed, type Hub, type Listener } from "./hub";
import type { ClientMessage, ErrorAnswer, ExportRequest, HubEvent } from "./protocol";

const PING_MS = 2500;
/** Without any message for so long (pings are answered), the hub counts as gone although its socket is open. */
const SILENT_MS = 8000;
const ASK_MS = 3000;
/** A request without an answer by then failed: what asks again and again would stand still. */
const ANSWER_MS = 20_000;
/** A bundle's media type. */
const BUNDLE = "application/zip";
const FIRST_RETRY = 500;
const LONGEST_RETRY = 10_000;

export class BrowserHub implements Hub {
  private socket: WebSocket | null = null;
  private retry = FIRST_RETRY;

  constructor(
    private readonly token: string | null,
    private readonly base: URL,
  ) {}

  start(listener: Listener): void {
    if (!this.token) {
      listener.connection("denied");
      return;
    }
    const address = new URL("api/v1/ws", this.base);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(address, ["onthefly.v1", `onthefly.token.${this.token}`]);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    let heard = Date.now();
    const gone = () => {
      clearInterval(pings);
      socket.onclose = null;
      socket.close();
      this.socket = null;
      void this.closed(listener);
    };
    const pings = setInterval(() => {
      if (Date.now() - heard > SILENT_MS) {
        listener.connection("lost");
        gone();
      } else this.send({ type: "ping" });
    }, PING_MS);
    socket.onopen = () => {
      this.retry = FIRST_RETRY;
      listener.connection("open");
    };
    socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => {
      heard = Date.now();
      if (typeof data === "string") listener.event(JSON.parse(data) as HubEvent);
      else listener.columns(decodeColumns(data));
    };
    socket.onclose = gone;
  }

  /** A socket does not say why it was refused: a request with the same token does. */
  private async closed(listener: Listener): Promise<void> {
    const signal = AbortSignal.timeout(ASK_MS);
    const status = await fetch(new URL("api/v1/sessions", this.base), { headers: this.headers(), signal }).then(
      (answer) => answer.status,
      () => 0,
    );
    if (status === 401) {
      listener.connection("denied");
      return;
    }
    listener.connection("lost");
    setTimeout(() => {
      this.start(listener);
    }, this.retry);
    this.retry = Math.min(2 * this.retry, LONGEST_RETRY);
  }

  send(message: ClientMessage): boolean {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  async get(path: string): Promise<unknown> {
    return (await this.request("GET", path, undefined, AbortSignal.timeout(ANSWER_MS))).json();
  }

  /** Of a bundle nobody knows how long it takes. */
  async ask(method: "POST" | "DELETE", path: string, body?: object): Promise<unknown> {
    return (await this.request(method, path, body, body instanceof Blob ? undefined : AbortSignal.timeout(ANSWER_MS))).json();
  }

  async bundle(session: string, wanted: ExportRequest): Promise<boolean> {
    const answer = await this.request("POST", `sessions/${session}/export`, wanted);
    download(`${session}.otf`, await answer.blob());
    return true;
  }

  save(name: string, content: Blob): Promise<void> {
    download(name, content);
    return Promise.resolve();
  }

  /** Rejects with `NotServed` where the answer is no good one. */
  private async request(method: string, path: string, body?: object, signal?: AbortSignal): Promise<Response> {
    const type = method !== "GET" && { "Content-Type": body instanceof Blob ? BUNDLE : "application/json" };
    const answer = await fetch(new URL(`api/v1/${path}`, this.base), {
      method, headers: { ...this.headers(), ...type }, ...(body && { body: body instanceof Blob ? body : JSON.stringify(body) }), ...(signal && { signal }),
    });
    if (!answer.ok) throw new NotServed(((await answer.json()) as ErrorAnswer).error);
    return answer;
  }

  private headers(): Record<string, string> {
    return { Authorization: `Bearer ${this.token ?? ""}` };
  }
}
