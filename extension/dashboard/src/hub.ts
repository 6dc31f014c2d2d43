// The seam between the page and the hub: one small interface, so that a browser (WebSocket) and an editor's webview
// (postMessage to the extension host, which holds the token) serve the same page.
import type { ClientMessage, ExportRequest, Fault, HubEvent } from "./protocol";
import type { Columns } from "./columns";

/** How the page stands with the hub. `denied`: it has no token, or one of an earlier hub. */
export type Connection = "connecting" | "open" | "lost" | "denied";

export interface Listener {
  /** `hint`: what a person can do about it, where more is known than the page knows. */
  connection(state: Connection, hint?: string): void;
  event(event: HubEvent): void;
  columns(columns: Columns): void;
}

export interface Hub {
  start(listener: Listener): void;
  /** False if nothing is connected: the message is not queued. */
  send(message: ClientMessage): boolean;
  /** `GET /api/v1/<path>`, decoded. Rejects with `NotServed` where the hub answers that it will not. */
  get(path: string): Promise<unknown>;
  /** The same with a request that changes what is kept; a `Blob` is a bundle. */
  ask(method: "POST" | "DELETE", path: string, body?: object): Promise<unknown>;
  /** Put a session into a file of the person's. False: they closed the dialogue. */
  bundle(session: string, wanted: ExportRequest): Promise<boolean>;
  /** Hand a file that the page made to the person. */
  save(name: string, content: Blob): Promise<void>;
}

/** The code of a request whose route the hub does not have: it is older than this page. */
const NO_ROUTE = "http_404";

/** The hub answered, and not with what was asked. */
export class NotServed extends Error {
  readonly code: string;
  readonly unknownRoute: boolean;

  constructor({ code, message, remedy }: Fault) {
    super([message, remedy].filter(Boolean).join(": "));
    this.code = code;
    this.unknownRoute = code === NO_ROUTE;
  }
}

/** For a person: why an answer did not come. */
export function why(error: unknown, part: string): string {
  if (error instanceof NotServed) return error.unknownRoute ? `This hub is older than the page and keeps no ${part}.` : `${error.message}.`;
  return `The hub did not answer; it is asked again.`;
}

/** For a person: why what they asked for was not done. */
export function fault(error: unknown): string {
  if (error instanceof NotServed) return error.unknownRoute ? "this hub is older than the page, and cannot do that" : error.message;
  return "the hub did not answer: look whether it was done";
}
