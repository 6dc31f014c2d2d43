// What can be done to the script now, and what became of the last thing that was asked here.
import { useEffect } from "preact/hooks";
import { held, LIVE } from "../controls";
import type { Model } from "../model";
import type { Session } from "../protocol";
import { Outcome } from "./Outcome";
import { PauseMenu } from "./PauseMenu";
import { StopMenu } from "./StopMenu";

export function Controls({ model, session }: { model: Model; session: Session }) {
  const over = !LIVE.has(session.state);
  const asking = model.commands.pending("bar")?.command.name;
  const busy = asking !== undefined || session.state === "pausing";
  return (
    <span class="controls">
      {!over && (
        <span class="split">
          <button
            class="primary"
            disabled={model.connection !== "open"}
            aria-disabled={busy}
            onClick={() => { if (!busy) model.toggle(); }}
            title={purpose(session)}
          >
            {label(asking, session)} <kbd>space</kbd>
          </button>
          {!held(session) && <PauseMenu model={model} session={session} />}
        </span>
      )}
      {!over && !held(session) && <StopMenu model={model} />}
      <Said model={model} />
    </span>
  );
}

/** A checkpoint that a key asked for has no other place to be told of: for so long. */
const TOLD_MS = 5000;

/** Lies over the page: the bar keeps its height. Hidden while a menu is open, whose fields say the same. */
function Said({ model }: { model: Model }) {
  const asked = model.commands.at("bar");
  const told = asked?.state === "applied" && asked.command.name === "checkpoint" ? asked.id : "";
  useEffect(() => {
    if (!told) return undefined;
    const timer = setTimeout(() => { model.commands.dismiss("bar"); }, TOLD_MS);
    return () => { clearTimeout(timer); };
  }, [model, told]);
  if (asked?.state !== "wrong" && !told && !model.fault) return null;
  return (
    <div class="over card">
      {model.fault ? <p class="said wrong" role="alert">{model.fault}</p> : <Outcome model={model} place="bar" />}
    </div>
  );
}

function purpose(session: Session): string {
  if (held(session)) return "Let the process of the finished script end";
  return session.state === "paused" ? "Let the script go on" : "Hold the script after its current optimizer step";
}

function label(asking: string | undefined, session: Session): string {
  if (asking === "resume") return held(session) ? "Ending…" : "Resuming…";
  if (asking === "step") return "Stepping…";
  if (asking === "pause" || session.state === "pausing") return "Pausing…";
  if (held(session)) return "Let it end";
  return session.state === "paused" ? "Resume" : "Pause";
}
