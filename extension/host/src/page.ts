// The dashboard's page in a webview: the same files as the hub serves, under a policy that lets nothing in or out.
import { randomBytes } from "node:crypto";
import type { Panel } from "./editor";

/** Where `npm run build` puts the built dashboard. */
export const FOLDER = ["dist", "dashboard"];

export function page(panel: Pick<Panel, "file" | "source">): string {
  const nonce = randomBytes(16).toString("base64");
  const policy = [
    "default-src 'none'",
    `script-src 'nonce-${nonce}'`,
    `style-src ${panel.source}`,
    "img-src data: blob:",
    "connect-src 'none'",
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");
  return `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta http-equiv="Content-Security-Policy" content="${policy}" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <title>OnTheFly</title>
    <link rel="stylesheet" href="${panel.file(...FOLDER, "dashboard.css")}" />
  </head>
  <body>
    <div id="app"></div>
    <script type="module" nonce="${nonce}" src="${panel.file(...FOLDER, "dashboard.js")}"></script>
  </body>
</html>`;
}
