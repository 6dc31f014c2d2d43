// What can be done to the script now, and what became of the last thing that was asked.
import { useState } from "preact/hooks";
import type { Model } from "../model";
import type { Session } from "../protocol";

export const LIVE: ReadonlySet<string> = new Set(["starting", "running", "pausing", "paused"]);

/** The script is through and its process is kept (`--hold`): to resume is to let it end. */
export function held({ state, reason }: Session): boolean {
  return state === "paused" && reason.startsWith("the script has finished");
}

export function Controls({ model, session }: { model: Model; session: Session }) {
  if (!LIVE.has(session.state)) return null;
  const busy = model.asking !== null || session.state === "pausing";
  return (
    <span class="controls">
      <Outcome model={model} />
      <button
        class="primary"
        disabled={model.connection !== "open"}
        aria-disabled={busy}
        onClick={() => { if (!busy) model.toggle(); }}
        title={purpose(session)}
      >
        {label(model.asking?.name, session)} <kbd>space</kbd>
      </button>
      {!held(session) && <Stop model={model} />}
    </span>
  );
}

function Stop({ model }: { model: Model }) {
  const [sure, setSure] = useState(false);
  if (!sure) {
    return <button disabled={model.connection !== "open"} onClick={() => { setSure(true); }} title="End the script after its current step; its own clean-up runs">Stop…</button>;
  }
  return (
    <>
      <button class="warning" onClick={() => { setSure(false); model.command("stop"); }}>Stop the script</button>
      <button onClick={() => { setSure(false); }}>Keep it</button>
    </>
  );
}

function purpose(session: Session): string {
  if (held(session)) return "Let the process of the finished script end";
  return session.state === "paused" ? "Let the script go on" : "Hold the script after its current optimizer step";
}

function label(asking: string | undefined, session: Session): string {
  if (asking === "resume") return held(session) ? "Ending…" : "Resuming…";
  if (asking === "pause" || session.state === "pausing") return "Pausing…";
  if (held(session)) return "Let it end";
  return session.state === "paused" ? "Resume" : "Pause";
}

/** What became of the last command: refusals stay until the next one. */
function Outcome({ model }: { model: Model }) {
  const { answer, fault } = model;
  const refused = answer && answer.answer.status !== "applied";
  if (!fault && !refused) return null;
  const text = fault || `${answer?.name ?? ""} ${answer?.answer.status ?? ""}: ${answer?.answer.reason ?? "not yet at its next step"}`;
  return <span class="outcome" role="alert" title={answer?.answer.remedy ?? ""}>{text}</span>;
}
