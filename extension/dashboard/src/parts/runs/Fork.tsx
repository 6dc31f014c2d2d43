// What a fork is to be: from where, on what, for how long, with which numbers.
import { useState } from "preact/hooks";
import { controlled } from "../../controls";
import { fork, FORK, type ForkForm } from "../../forking";
import { typed } from "../../forms";
import * as format from "../../format";
import { columns, common } from "../../groups";
import type { Model } from "../../model";
import type { Session } from "../../protocol";
import type { Forking } from "../../runs";
import { Card, Line } from "./Dialogs";

interface ForkProps {
  model: Model;
  session: Session;
  forking: Forking;
}

export function ForkFields({ model, session, forking }: ForkProps) {
  const { groups, checkpoints } = controlled(session);
  const [form, setForm] = useState<ForkForm>({ ...FORK, select: forking.select, loader: forking.loader, checkpoint: forking.checkpoint });
  const edit = (change: Partial<ForkForm>) => { setForm({ ...form, ...change }); };
  const back = checkpoints.filter((each) => each.back ?? false);
  const optimizers = [...new Map(groups.map((group) => [group.optimizer, group.kind]))];
  const own = form.optimizer ? groups.filter(({ optimizer }) => optimizer === Number(form.optimizer)) : groups;
  const obstacle = session.state === "paused" ? "" : "Pause the script first.";
  const now = (name: string) => {
    const found = common(own, name);
    return !found ? "" : form.checkpoint ? "as there" : found.value === null ? "different" : typed(found.value);
  };
  return (
    <Card model={model} session={session} label="Fork" about="a run of its own; the script's loop stands still meanwhile" verb="Fork" filled={fork(form, own)} obstacle={obstacle} onClose={() => { model.runs.fork(null); }}>
      {(fault) => (
        <>
          <div class="pair">
            <Line label="Name" value={form.name} example="fork1" title="Empty: the next number" wrong={fault?.field === "name"} onValue={(name) => { edit({ name }); }} />
            <span class="of">
              <label for="fork-from">From</label>
              <select id="fork-from" value={form.checkpoint} onChange={({ currentTarget }) => { edit({ checkpoint: currentTarget.value }); }}>
                <option value="">{`now: ${session.run}, step ${format.count(session.step)}`}</option>
                {back.map(({ name, run, step }) => <option key={name} value={name}>{`${name}: ${run}, step ${format.count(step)}`}</option>)}
              </select>
            </span>
          </div>
          <Line label="On" value={form.select} example="all samples" wide first title="As in Samples: worst=100, loss=2:, class=3,5, tag=label:wrong, sample=7,10:19" onValue={(select) => { edit({ select }); }} />
          <small class="hint">{forking.says && form.select === forking.select ? `That is: ${forking.says}.` : "Terms side by side, as in Samples: worst=100 class=3,5 !tag=label:wrong; by the newest losses of training of the run that it begins from."}</small>
          <div class="pair three" role="group" aria-label="How long">
            <Line label="For" value={form.steps} example="–" unit="steps" wrong={fault?.field === "steps"} onValue={(steps) => { edit({ steps }); }} />
            <Line label="or" value={form.epochs} example={form.steps || form.minutes ? "–" : "1"} unit="epochs" wrong={fault?.field === "epochs"} onValue={(epochs) => { edit({ epochs }); }} />
            <Line label="or" value={form.minutes} example="–" unit="minutes" wrong={fault?.field === "minutes"} onValue={(minutes) => { edit({ minutes }); }} />
          </div>
          <small class="hint">What is over first ends it; an epoch is once through the samples that are chosen.</small>
          {optimizers.length > 1 && (
            <span class="of">
              <label for="fork-optimizer">Optimizer</label>
              <select id="fork-optimizer" value={form.optimizer} onChange={({ currentTarget }) => { edit({ optimizer: currentTarget.value, settings: {} }); }}>
                <option value="">the one that trains this loss</option>
                {optimizers.map(([number, kind]) => <option key={number} value={String(number)}>{`${number}: ${kind}`}</option>)}
              </select>
            </span>
          )}
          <div class="pair three" role="group" aria-label="Numbers that are others in it">
            {columns(own).map((name) => <Line key={name} label={name} value={form.settings[name] ?? ""} example={now(name)} title="Empty: as it is" wrong={fault?.field === name} onValue={(value) => { edit({ settings: { ...form.settings, [name]: value } }); }} />)}
          </div>
          <div class="pair three">
            <Line label="Seed" value={form.seed} example="0" title="Of the order of its samples" wrong={fault?.field === "seed"} onValue={(seed) => { edit({ seed }); }} />
            <Line label="Loader" value={form.loader} example="training" title="From which loader's data set; empty: the one that is trained on" onValue={(loader) => { edit({ loader }); }} />
          </div>
        </>
      )}
    </Card>
  );
}
