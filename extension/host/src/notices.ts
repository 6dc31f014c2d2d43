// Tells when a script of this window has ended or failed.
import type { Session } from "../../dashboard/src/protocol";
import * as format from "../../dashboard/src/format";
import type { Editor } from "./editor";
import { ours } from "./status";

const SHOW = "Show Dashboard";
const FAILED: ReadonlySet<string> = new Set(["crashed", "lost"]);

export async function notice(session: Session, editor: Editor, show: (session: string) => void): Promise<void> {
  const failed = FAILED.has(session.state);
  const when = editor.setting("notify");
  if (when === "never" || (when === "failure" && !failed) || !ours(session, editor)) return;
  const { name, state, step, loss, reason } = session;
  const how = { crashed: "has failed", lost: "is gone: its process ended without a word", stopped: "was stopped" }[state as string] ?? "has ended";
  const text = `${name} ${how} after step ${format.count(step)}, loss ${format.loss(loss)}.${reason ? ` ${reason}` : ""}`;
  if (await editor.say(failed ? "error" : "info", text, SHOW)) show(session.id);
}
