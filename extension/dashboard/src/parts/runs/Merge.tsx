// How several runs are to become one: by which strategy, with what, and what becomes of the optimizer.
import { useState } from "preact/hooks";
import { merge, MERGE, OPTIMIZERS, STRATEGIES, type MergeForm } from "../../forking";
import type { Model } from "../../model";
import type { Session } from "../../protocol";
import { Card, Line } from "./Dialogs";

interface MergeProps {
  model: Model;
  session: Session;
  runs: readonly string[];
}

export function MergeFields({ model, session, runs }: MergeProps) {
  const [form, setForm] = useState<MergeForm>(MERGE);
  const edit = (change: Partial<MergeForm>) => { setForm({ ...form, ...change }); };
  const strategy = STRATEGIES.find(({ name }) => name === form.strategy);
  const obstacle = session.state === "paused" ? "" : "Pause the script first.";
  return (
    <Card model={model} session={session} label="Merge" about={runs.join(", ")} verb="Merge" filled={merge(form, runs)} obstacle={obstacle} onClose={() => { model.runs.merge(null); }}>
      {(fault) => (
        <>
          <fieldset class="strategies">
            <legend>By</legend>
            {STRATEGIES.map(({ name, says, exactly }) => {
              const off = exactly !== undefined && exactly !== runs.length;
              return (
                <label key={name} title={off ? `It takes ${exactly} runs` : ""}>
                  <input type="radio" name="strategy" value={name} checked={form.strategy === name} disabled={off} autofocus={form.strategy === name} onChange={() => { edit({ strategy: name, parameters: {} }); }} />
                  <b>{name}</b> <small>{says}</small>
                </label>
              );
            })}
          </fieldset>
          {strategy?.weighted && (
            <div class="pair three" role="group" aria-label="How much each counts">
              {runs.map((run) => <Line key={run} label={run} value={form.weights[run] ?? ""} example={strategy.name === "weighted" ? "0.5" : "alike"} title="Its share beside the others'" wrong={fault?.field === `weight of ${run}`} onValue={(value) => { edit({ weights: { ...form.weights, [run]: value } }); }} />)}
            </div>
          )}
          {strategy && (strategy.parameters.length > 0 || strategy.draws) && (
            <div class="pair three" role="group" aria-label={`Of ${strategy.name}`}>
              {strategy.parameters.map(({ name, says, example }) => <Line key={name} label={name} value={form.parameters[name] ?? ""} example={example} title={says} wrong={fault?.field === name} onValue={(value) => { edit({ parameters: { ...form.parameters, [name]: value } }); }} />)}
              {strategy.draws && <Line label="seed" value={form.seed} example="0" title="Of what is drawn" wrong={fault?.field === "seed"} onValue={(seed) => { edit({ seed }); }} />}
            </div>
          )}
          {strategy && strategy.parameters.length > 0 && <small class="hint">{strategy.parameters.map(({ name, says }) => `${name}: ${says}`).join("; ")}.</small>}
          <div class="pair">
            <Line label="Name" value={form.name} example="merge1" title="Empty: the next number" wrong={fault?.field === "name"} onValue={(name) => { edit({ name }); }} />
            <span class="of">
              <label for="merge-optimizer">Optimizer</label>
              <select id="merge-optimizer" value={form.optimizer} onChange={({ currentTarget }) => { edit({ optimizer: currentTarget.value as MergeForm["optimizer"] }); }}>
                {Object.entries(OPTIMIZERS).map(([value, says]) => <option key={value} value={value}>{says}</option>)}
              </select>
            </span>
          </div>
          <Line label="Tested on" value={form.loader} example="validation" title="The loader on which it is tested before it is taken; empty: one that is not trained on" onValue={(loader) => { edit({ loader }); }} />
          <label class="force"><input type="checkbox" checked={form.force} onChange={({ currentTarget }) => { edit({ force: currentTarget.checked }); }} /> Take it even where it is worse <small>else one that is worse than its parents, beyond the interval of the test, is refused and nothing changes</small></label>
        </>
      )}
    </Card>
  );
}
