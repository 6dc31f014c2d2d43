// The bar: which session, how it is, and the controls that can act on it now.
import { useState } from "preact/hooks";
import * as format from "../format";
import type { Model } from "../model";
import type { Session } from "../protocol";

export const LIVE: ReadonlySet<string> = new Set(["starting", "running", "pausing", "paused"]);

export function Bar({ model, onHelp }: { model: Model; onHelp: () => void }) {
  const { session } = model;
  return (
    <header class="bar">
      <span class="brand">On<b>The</b>Fly</span>
      {session && <Picker model={model} session={session} />}
      {session && <State session={session} />}
      <span class="grow" />
      {session && <Controls model={model} session={session} />}
      {session && (
        <span class="pill" title="Time inside our hooks in each step (mean of the newest hundred), and its share of the step. What they push out of the processor's caches comes on top: about half as much again in steps of a millisecond.">
          {format.cost(session.onthefly_us, session.step_ms)}
        </span>
      )}
      <button class="quiet" onClick={onHelp} aria-label="Keys" title="Keys (?)">?</button>
    </header>
  );
}

function Picker({ model, session }: { model: Model; session: Session }) {
  return (
    <select
      class="picker"
      aria-label="Session"
      value={model.wanted === "last" ? "last" : session.id}
      onChange={(event) => { model.follow(event.currentTarget.value); }}
    >
      <option value="last">{`${session.name} / ${session.run}`}</option>
      {model.sessions.map(({ id, name, state, started }) => (
        <option key={id} value={id}>{`${name} · ${id} · ${state} · ${format.clock(started)}`}</option>
      ))}
    </select>
  );
}

function State({ session }: { session: Session }) {
  const by = session.by ? ` by ${session.by}` : "";
  return (
    <span class="state" role="status">
      <span class={`dot ${session.state}`} aria-hidden="true" />
      <strong>{session.state}</strong>
      <span class="figures">{`step ${format.count(session.step)} · epoch ${session.epoch}`}</span>
      {(session.reason || by) && <span class="muted">{session.reason || by.trim()}</span>}
    </span>
  );
}

function Controls({ model, session }: { model: Model; session: Session }) {
  const [sure, setSure] = useState(false);
  if (!LIVE.has(session.state)) return null;
  const paused = session.state === "paused";
  const busy = model.asking !== null || session.state === "pausing";
  return (
    <span class="controls">
      <Outcome model={model} />
      <button
        class="primary"
        disabled={model.connection !== "open"}
        aria-disabled={busy}
        onClick={() => { if (!busy) model.toggle(); }}
        title={paused ? "Let the script go on" : "Hold the script after its current optimizer step"}
      >
        {label(model.asking?.name, session.state)} <kbd>space</kbd>
      </button>
      {sure ? (
        <>
          <button class="warning" onClick={() => { setSure(false); model.command("stop"); }}>Stop the script</button>
          <button onClick={() => { setSure(false); }}>Keep it</button>
        </>
      ) : (
        <button disabled={model.connection !== "open"} onClick={() => { setSure(true); }} title="End the script after its current step; its own clean-up runs">Stop…</button>
      )}
    </span>
  );
}

function label(asking: string | undefined, state: string): string {
  if (asking === "resume") return "Resuming…";
  if (asking === "pause" || state === "pausing") return "Pausing…";
  return state === "paused" ? "Resume" : "Pause";
}

/** What became of the last command: refusals stay until the next one. */
function Outcome({ model }: { model: Model }) {
  const { answer, fault } = model;
  const refused = answer && answer.answer.status !== "applied";
  if (!fault && !refused) return null;
  const text = fault || `${answer?.name ?? ""} ${answer?.answer.status ?? ""}: ${answer?.answer.reason ?? "not yet at its next step"}`;
  return <span class="outcome" role="alert" title={answer?.answer.remedy ?? ""}>{text}</span>;
}
