// What the page in an editor's webview and the extension host say to each other. The host holds the token and the hub's
// socket; nothing here carries either.
import type { Connection } from "./hub";
import type { ClientMessage, ExportRequest } from "./protocol";

export type FromPage =
  /** The page has loaded and listens. */
  | { type: "start" }
  | { type: "send"; message: ClientMessage }
  /** `GET /api/v1/<path>`; answered with `got` of the same id. */
  | { type: "get"; id: number; path: string }
  /** A change of what is kept; answered likewise. `body`: JSON, or a bundle's bytes. */
  | { type: "ask"; id: number; method: "POST" | "DELETE"; path: string; body: string | ArrayBuffer }
  /** A session into a file that the host asks for; answered with `true`, or `false` where none was named. */
  | { type: "bundle"; id: number; session: string; wanted: ExportRequest }
  | { type: "save"; name: string; content: ArrayBuffer }
  /** Which session is shown from now on, and its name; `last` stands for whichever is the newest. */
  | { type: "shows"; session: string; name: string };

export type ToPage =
  /** `hint`: what a person can do about it. */
  | { type: "connection"; state: Connection; hint: string }
  /** An event of the hub's, as JSON. */
  | { type: "text"; text: string }
  | { type: "columns"; content: ArrayBuffer }
  | { type: "got"; id: number; ok: boolean; body: string }
  | { type: "follow"; session: string };

/** What the page keeps over a reload of the window. */
export interface Kept {
  session: string;
  metric: string;
}
