// The runs of a session: how they came of each other, one beside the other, and what can be made of them.
import { useEffect, useState } from "preact/hooks";
import { LIVE } from "../../controls";
import * as format from "../../format";
import { lineage, MAX_RUNS, unfit, type Node } from "../../lineage";
import type { Model } from "../../model";
import type { Session } from "../../protocol";
import type { Known } from "../../runs";
import { Outcome } from "../Outcome";
import { Progress } from "../Progress";
import type { TabProps } from "../Tabs";
import { Comparison } from "./Comparison";
import { Detail } from "./Detail";
import { Graph } from "./Graph";

export function Runs({ model, session: viewed }: TabProps) {
  const session = model.session ?? viewed; // the current run is meant, whichever is looked at
  const { runs } = model;
  const [over, setOver] = useState("");
  useEffect(() => runs.watch(), [runs]);
  const nodes = lineage(session, runs.recorded);
  const now = model.picked && model.picked !== session.run ? session.loss : model.loss();
  const loss = ({ run, current }: Node) => (current && now !== null ? `loss ${format.loss(now)}` : newest(runs.losses.get(run)));
  const shown = nodes.find(({ run }) => run === over) ?? nodes.find(({ run }) => run === runs.at) ?? nodes.find(({ current }) => current);
  const chosen = runs.chosen.flatMap((run) => nodes.find((node) => node.run === run) ?? []);
  return (
    <section class="runs" aria-label="Runs and how they came of each other">
      <Acts model={model} session={session} chosen={chosen} several={nodes.length > 1} />
      {nodes.length < 2 ? <Alone session={session} /> : (
        <div class="sides lines">
          <div>
            <Graph model={model} nodes={nodes} loss={loss} onHover={setOver} />
            <p class="keys-of">
              <span class="legend"><i class="dot-of current" aria-hidden="true" />current</span>
              <span class="legend"><i class="dot-of held" aria-hidden="true" />held by the script's process</span>
              <span class="legend"><i class="dot-of" aria-hidden="true" />its records only</span>
            </p>
          </div>
          {shown && <Detail model={model} session={session} node={shown} />}
        </div>
      )}
      <Comparison model={model} />
    </section>
  );
}

function newest(known: Known | undefined): string {
  if (!known || known.last === null) return "";
  return known.mean ? `loss ≈ ${format.figure(known.last)}` : `loss ${format.loss(known.last)}`;
}

function Alone({ session }: { session: Session }) {
  return (
    <div class="alone">
      <p><strong>{session.run}</strong> is the only run so far.</p>
      <p class="muted">A fork is a run of its own that begins here, or at a checkpoint: trained on some of the samples, with another learning rate, for as long as you say, while the script's own loop stands still. Afterwards the script goes on with either of them, both can be tested side by side, and they can be merged into one model, which is taken where it is no worse than its parents.</p>
      <p class="muted">{how(session.state)}</p>
    </div>
  );
}

function how(state: Session["state"]): string {
  if (!LIVE.has(state)) return "The script has ended: its model is gone, so there is nothing to fork. Resume it from a checkpoint first.";
  return `To make one: ${state === "paused" ? "Fork…" : "pause the script, then Fork…"}; or select samples in the histogram, in Samples or in the Map, and fork on these.`;
}

/** Under `runs`, whose newest outcome is told. */
const COMPARE = "runs/compare";

/** What can be done to the chosen ones. */
function Acts({ model, session, chosen, several }: { model: Model; session: Session; chosen: readonly Node[]; several: boolean }) {
  const { runs } = model;
  const { loader, select } = runs.on;
  const names = chosen.map(({ run }) => run);
  const forks = chosen.flatMap(({ run, branch }) => (branch?.kind === "fork" && branch.samples ? [run] : []));
  const off = model.connection !== "open";
  const reason = unfit(session, chosen);
  const paused = session.state === "paused";
  const compare = (test: boolean) => {
    const side = { runs: names, loader: loader.trim(), select: select.trim() };
    if (!test) {
      void runs.compare(side);
      return;
    }
    model.command(COMPARE, { name: "compare", args: { runs: names, ...(side.loader && { loader: side.loader }) } });
    runs.expect(model.commands.at(COMPARE)?.id ?? "", side);
  };
  return (
    <div class="field acts-of">
      <button class="primary" disabled={off || !paused} title={paused ? "A run of its own, from here or a checkpoint" : "Pause the script first"} onClick={() => { runs.fork({}); }}>Fork…</button>
      <Progress model={model} session={session} />
      {chosen.length > 0 && (
        <span class="chosen-runs">
          <strong>{chosen.length === 1 ? names[0] : format.counted(chosen.length, "run")}</strong>
          <button class="quiet" title="Choose none (Esc)" onClick={() => { runs.none(); }}>none</button>
        </span>
      )}
      {several && chosen.length < 2 && <small>{chosen.length ? "Choose another, with shift or ctrl, to compare or merge both." : "Choose runs by a click, more with shift or ctrl; by keys: arrows, then Enter."}</small>}
      {chosen.length > 1 && (
        <span class="field under">
          <button disabled={off || reason !== "" || model.commands.pending(COMPARE) !== null} title={reason || `Test each on the same samples, beside ${names[0] ?? ""}`} onClick={() => { compare(true); }}>Compare</button>
          <label>on <input type="text" class="short" value={loader} placeholder="validation" aria-label="Loader" title="loader1, ..., or the name of its variable; empty: one that is not trained on" onInput={({ currentTarget }) => { runs.say({ loader: currentTarget.value }); }} /></label>
          <label>slice <input type="text" class="short" list="slices" value={select} placeholder={forks[0] ?? "class=3,5"} aria-label="Slice" spellcheck={false} title="Looked at beside the rest: a selection of the samples that are tested, or a fork for those that it was trained on" onInput={({ currentTarget }) => { runs.say({ select: currentTarget.value }); }} /></label>
          <datalist id="slices">{forks.map((run) => <option key={run} value={run} />)}</datalist>
          <button class="quiet" disabled={chosen.length > MAX_RUNS} title="Nothing is run: from the newest test that each has" onClick={() => { compare(false); }}>newest tests</button>
          <button disabled={off || reason !== ""} title={reason || "One model of these, tested before it is taken"} onClick={() => { runs.merge(names); }}>Merge…</button>
          {reason && <small>{`${reason}.`}</small>}
        </span>
      )}
      <div class="under"><Outcome model={model} place="runs" /></div>
    </div>
  );
}
