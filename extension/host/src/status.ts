// The status bar: state, step and loss of the session that matters here; a click pauses or resumes it.
import type { Session } from "../../dashboard/src/protocol";
import * as format from "../../dashboard/src/format";
import type { Editor, StatusItem } from "./editor";
import { live, type Sessions } from "./sessions";

const ICONS: Readonly<Record<string, string>> = {
  starting: "$(loading~spin)", running: "$(debug-pause)", pausing: "$(loading~spin)", paused: "$(debug-continue)",
  crashed: "$(error)", lost: "$(warning)",
};

/** Whether a session belongs to this window: its script lies in a folder that is open here. */
export function ours(session: Session, editor: Pick<Editor, "folders">): boolean {
  return editor.folders().some((folder) => within(session.script, folder) || within(session.cwd, folder));
}

function within(place: string, folder: string): boolean {
  return place === folder || place.startsWith(folder.endsWith("/") || folder.endsWith("\\") ? folder : `${folder}/`) || place.startsWith(`${folder}\\`);
}

/** The one to show: alive before ended, of this window before others, the newest. */
export function foremost(sessions: Sessions, editor: Pick<Editor, "folders">): Session | undefined {
  const alive = sessions.all.filter(live);
  return alive.find((session) => ours(session, editor)) ?? alive[0] ?? sessions.all.find((session) => ours(session, editor));
}

export class Status {
  private readonly item: StatusItem;

  constructor(
    private readonly editor: Editor,
    private readonly sessions: Sessions,
  ) {
    this.item = editor.statusItem("OnTheFly");
    sessions.onChange(() => { this.draw(); });
  }

  private draw(): void {
    const session = this.sessions.connected ? foremost(this.sessions, this.editor) : undefined;
    if (!session) {
      this.item.hide();
      return;
    }
    const { state, step, loss, name } = session;
    const text = `${ICONS[state] ?? "$(check)"} ${state} · step ${format.count(step)} · loss ${format.loss(loss)}`;
    if (state === "paused") this.item.show(text, `${name} is paused: click to let it go on`, "onthefly.toggle");
    else if (state === "running" || state === "starting") this.item.show(text, `${name}: click to pause it after its current step`, "onthefly.toggle");
    else this.item.show(text, `${name}: click for the dashboard`, "onthefly.showDashboard");
  }
}
