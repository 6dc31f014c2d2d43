// The dashboard in the person's browser, which may run on another machine than the hub.
import * as fs from "node:fs";
import * as path from "node:path";
import { pathToFileURL } from "node:url";
import type { Connection } from "./connection";
import type { Editor } from "./editor";
import { address, runtimeFolder, type Environment, type HubFile } from "./runtime";

export async function openInBrowser(connection: Connection, editor: Editor, env: Environment): Promise<void> {
  const hub = connection.file;
  if (!hub) throw new Error("the hub is not connected");
  if (editor.place() === "desktop") {
    await editor.open(pathToFileURL(redirect(hub, env)).href);
    return;
  }
  // The path and query are not kept by every editor: the root is made external, the rest added.
  const external = new URL(await editor.external(address(hub)));
  if (external.host !== new URL(address(hub)).host) await admit(connection, external);
  const logsIn = `${external.href.replace(/\/?$/, "/")}#token=${hub.token}`;
  if (editor.place() === "browser") {
    await editor.open(logsIn);
    return;
  }
  // This would be started with the address on a command line, which every user of that machine may read.
  await editor.copy(logsIn);
  await editor.say("info", `The dashboard's address is in the clipboard: paste it in your browser. It logs in, so give it to nobody.`);
}

/** Tell the hub the name that the editor's proxy calls it by: it answers to no other. */
async function admit(connection: Connection, { origin }: URL): Promise<void> {
  const { ok } = await connection.ask("origins", { origin });
  if (!ok) throw new Error("this hub is older than the extension and does not answer behind the editor's proxy: use Show Dashboard");
}

/** A page of our own that goes on to the dashboard: the token in an address on a command line could be read by others. */
function redirect(hub: HubFile, env: Environment): string {
  const place = path.join(runtimeFolder(env), "open.html");
  const target = JSON.stringify(`${address(hub)}#token=${hub.token}`);
  const flags = fs.constants.O_WRONLY | fs.constants.O_CREAT | fs.constants.O_TRUNC | (process.platform === "win32" ? 0 : fs.constants.O_NOFOLLOW);
  const file = fs.openSync(place, flags, 0o600);
  fs.writeFileSync(file, `<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer"><title>OnTheFly</title>\n<script>location.replace(${target})</script>`);
  fs.closeSync(file);
  return place;
}
