// The seam between the page and the hub: one small interface, so that a browser (WebSocket) and an editor's webview
// (postMessage to the extension host, which holds the token) serve the same page.
import type { ClientMessage, HubEvent } from "./protocol";
import type { Columns } from "./columns";

/** How the page stands with the hub. `denied`: it has no token, or one of an earlier hub. */
export type Connection = "connecting" | "open" | "lost" | "denied";

export interface Listener {
  connection(state: Connection): void;
  event(event: HubEvent): void;
  columns(columns: Columns): void;
}

export interface Hub {
  start(listener: Listener): void;
  /** False if nothing is connected: the message is not queued. */
  send(message: ClientMessage): boolean;
  /** `GET /api/v1/<path>`, decoded. */
  get(path: string): Promise<unknown>;
}
