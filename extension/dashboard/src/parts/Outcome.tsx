// What became of what was asked at a place, beside the control that asked: a refusal stays until it is read, or asked anew.
import { words } from "../changes";
import type { Asked } from "../commands";
import * as format from "../format";
import type { Model } from "../model";

interface OutcomeProps {
  model: Model;
  place: string;
  /** Say what was done as well, not only what was not. */
  done?: boolean;
  /** Keep the room of one line: nothing moves when there is something to say. */
  room?: boolean;
}

export function Outcome({ model, place, done = true, room = false }: OutcomeProps) {
  const asked = model.commands.at(place);
  if (asked?.state === "wrong") {
    return (
      <p class="said wrong" role="alert">
        <span>{asked.command.name} {asked.reason}{asked.remedy && <span class="muted">{` – ${asked.remedy}`}</span>}</span>
        <button class="quiet" aria-label="Dismiss" title="Dismiss" onClick={() => { model.commands.dismiss(asked.place); }}>×</button>
      </p>
    );
  }
  const told = asked ? progress(asked, done, model.session?.state === "paused") : "";
  return told || room ? <p class="said" role="status">{told}</p> : null;
}

/** Done at a pause, however long it takes; no step of the script is waited for. */
const LONG: ReadonlySet<string> = new Set(["compare", "diagnose", "fork", "health", "merge", "scan", "switch", "test"]);

function progress(asked: Asked, done: boolean, paused: boolean): string {
  if (asked.state === "sent") return `${asked.command.name}…`;
  if (asked.state === "accepted" && paused && LONG.has(asked.command.name)) return `${asked.command.name}: under way`;
  if (asked.state === "accepted") return `${asked.command.name}: waits for the script's next step`;
  return done ? applied(asked) : "";
}

/** What was done, as the script tells it. */
export function applied({ command, answer }: Asked): string {
  const result = answer?.result ?? {};
  const [before, after] = [record(result["before"]), record(result["after"])];
  const what = Object.keys(after).length ? words({ name: command.name, args: { ...command.args }, before, after }) : command.name;
  if (typeof result["verdict"] === "string") return `${command.name}: ${result["verdict"]}`;
  if (typeof result["run"] === "string") return command.name === "switch" ? `the script goes on with ${result["run"]}` : `${command.name}: ${result["run"]}${made(result)}`;
  if (result["waits"]) return `${command.name}: waits until the script has shown how its step goes; what comes of it is told here and as a notice`;
  const planned = typeof result["planned"] === "string" ? `holds at ${result["planned"]}` : "";
  const step = answer?.step ?? -1;
  return [planned || (what === command.name ? `${what}: done` : what), step >= 0 ? `at step ${format.count(step)}` : ""].filter(Boolean).join(planned ? ", asked " : " ");
}

/** Of a run that was made. */
function made({ steps, loss, partial }: Record<string, unknown>): string {
  const trained = typeof steps === "number" ? ` is trained, ${format.counted(steps, "step")}` : "";
  return trained + (typeof loss === "number" ? `, loss ${format.loss(loss)}` : "") + (typeof partial === "string" ? `; ${partial}` : "");
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}
