// The view of sessions: one row each, newest start first.
import type { Session } from "../../dashboard/src/protocol";
import * as format from "../../dashboard/src/format";
import type { Row } from "./editor";

const LOOKS: Readonly<Record<Session["state"], [icon: string, colour: string]>> = {
  starting: ["loading~spin", "charts.green"], running: ["play-circle", "charts.green"], pausing: ["loading~spin", "charts.blue"],
  paused: ["debug-pause", "charts.blue"], ended: ["pass", "descriptionForeground"], stopped: ["stop-circle", "descriptionForeground"],
  crashed: ["error", "errorForeground"], lost: ["warning", "charts.orange"], imported: ["archive", "descriptionForeground"],
};

export function row(session: Session): Row {
  const { id, name, project, state, step, epoch, loss, started, reason, cwd, script } = session;
  const [icon, colour] = LOOKS[state];
  return {
    id,
    label: name,
    description: `step ${format.count(step)} · loss ${format.loss(loss)}`,
    spoken: `${name}, ${state}, step ${format.count(step)}, loss ${format.loss(loss)}`,
    tooltip: [
      `${project ? `${project} / ` : ""}${name} (${id})`, `${state}${reason && `: ${reason}`}`,
      `step ${format.count(step)}, epoch ${epoch}, loss ${format.loss(loss)}`, `started ${format.moment(started)}`, script, `in ${cwd}`,
    ].join("\n"),
    icon,
    colour,
    kind: state === "starting" || state === "running" ? "running" : state === "pausing" || state === "paused" ? "paused" : state === "imported" ? "imported" : "ended",
  };
}
