// The bar: which session, how it is, and what watching it costs.
import * as format from "../format";
import { lineage } from "../lineage";
import type { Model } from "../model";
import type { Session } from "../protocol";
import { Controls } from "./Controls";
import { useNow } from "./now";
import { Picker } from "./runs/Picker";
import { SessionMenu } from "./SessionMenu";

export const LOWER_BOUND =
  "Time inside our hooks in each step (mean of the newest hundred), and its share of the step. What they push out of the " +
  "processor's caches comes on top: about half as much again in steps of a millisecond.";

interface BarProps {
  model: Model;
  onHelp: () => void;
  onSessions: () => void;
}

export function Bar({ model, onHelp, onSessions }: BarProps) {
  const { session } = model;
  return (
    <header class="bar">
      <span class="brand">On<b>The</b>Fly</span>
      {session && <Title model={model} session={session} onSessions={onSessions} />}
      {session && <State session={session} />}
      {session && <Unsaved session={session} />}
      <span class="right">
        {session && <Controls model={model} session={session} />}
        {session && <SessionMenu key={session.id} model={model} session={session} />}
        {session && <span class="pill" title={LOWER_BOUND}>{format.cost(session.onthefly_us, session.step_ms)}</span>}
        <button class="quiet" onClick={onHelp} aria-label="Keys" title="Keys (?)">?</button>
      </span>
    </header>
  );
}

function Title({ model, session, onSessions }: { model: Model; session: Session; onSessions: () => void }) {
  const { project, name, run } = session;
  const runs = lineage(session, model.runs.recorded);
  // A session that was named gives its run the same name; saying it twice would tell nothing.
  const above = [project, name].filter((part) => part && part !== run).join(" / ");
  const several = runs.length > 1;
  return (
    <>
      <h1 class="title">
        <button class="quiet" aria-haspopup="dialog" title="Show another session (s)" onClick={onSessions}>
          {above && <span class="muted">{several ? above : `${above} / `}</span>}{several && above ? "" : run} <span class="muted" aria-hidden="true">▾</span>
        </button>
      </h1>
      {several && <Picker model={model} session={session} runs={runs} />}
    </>
  );
}

function State({ session }: { session: Session }) {
  const now = useNow();
  const age = session.state === "paused" && session.since ? format.age(now - session.since) : "";
  const who = [age, session.by && `by ${session.by}`].filter(Boolean).join(" ");
  const why = [who, session.reason].filter(Boolean).join(": ");
  return (
    <span class="state" role="status">
      <span class={`dot ${session.state}`} aria-hidden="true" />
      <strong>{session.state}</strong>
      <span class="figures">{`step ${format.count(session.step)} · epoch ${session.epoch}`}</span>
      {why && <span class="muted why" title={why}>{why}</span>}
    </span>
  );
}

/** Records wait: what is shown may not be there tomorrow. */
function Unsaved({ session }: { session: Session }) {
  const since = session.unsaved_since;
  if (since === null || since === undefined) return null;
  const title = "New records wait in memory until they can be saved; the script goes on. Mend the reason (for instance, free space on the disk), and they are saved by themselves. Until then, keep the script and the hub running.";
  return <span class="badge" role="alert" title={title}>{`not saved since ${format.clock(since)}: ${session.unsaved_reason ?? ""}`}</span>;
}
