// What can be done to the chosen samples. The room is kept while none is chosen: the list above does not move.
import { useState } from "preact/hooks";
import type { Command } from "../commands";
import { controlled } from "../controls";
import type { Read } from "../forms";
import * as format from "../format";
import type { Model } from "../model";
import type { Session } from "../protocol";
import { replaces, subset, weighted, type Selection } from "../selection";
import { Outcome } from "./Outcome";

interface ChosenProps {
  model: Model;
  session: Session;
  selection: Selection;
  onClear: () => void;
}

const PLACE = "subset";

export function Chosen({ model, session, selection, onClear }: ChosenProps) {
  const [weight, setWeight] = useState<string | null>(null);
  const [fault, setFault] = useState("");
  const { subset: now } = controlled(session);
  const count = selection.chosen.size;
  const disabled = !count || model.connection !== "open" || model.commands.pending(PLACE) !== null;
  const ask = (read: Read<Command>) => {
    setFault(read.fault ?? "");
    if (read.fault !== undefined) return;
    setWeight(null);
    model.command(PLACE, read.value);
  };
  return (
    <div class="chosen-samples">
      <div class="field">
        <small class="about">{count ? `${format.counted(count, "sample")} chosen` : "Choose samples, by their boxes or with x, for:"}</small>
        <button disabled={disabled} title={replaces("exclude", now)} onClick={() => { ask(subset("exclude", selection.chosen, now)); }}>Exclude from training</button>
        <button disabled={disabled} title={replaces("include", now)} onClick={() => { ask(subset("include", selection.chosen, now)); }}>Train only on these</button>
        {weight === null ? <button disabled={disabled} title={replaces("weights", now)} onClick={() => { setWeight(""); }}>Weight…</button> : (
          <form class="field" noValidate onSubmit={(event) => { event.preventDefault(); ask(weighted(weight, selection.chosen, now)); }}>
            <input
              ref={(input) => { if (input && !weight) input.focus(); }} type="text" class="short" aria-label="How often each is taken, on average" placeholder="0.5" value={weight} aria-invalid={fault !== ""}
              onInput={({ currentTarget }) => { setWeight(currentTarget.value); setFault(""); }} onKeyDown={({ key }) => { if (key === "Escape") { setWeight(null); setFault(""); } }}
            />
            <button disabled={disabled}>Weigh</button>
          </form>
        )}
        {count > 0 && <button class="quiet" title="Choose none" onClick={onClear}>none</button>}
      </div>
      {fault ? <p class="said wrong" role="alert">{fault}</p> : <Outcome model={model} place={PLACE} room />}
    </div>
  );
}
