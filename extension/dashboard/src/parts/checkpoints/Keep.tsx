// When checkpoints are made by themselves, and how much they may take.
import { useState } from "preact/hooks";
import { bytes, sized, whole } from "../../forms";
import type { Model } from "../../model";
import type { Keep as Settings } from "../../protocol";
import { Outcome } from "../Outcome";
import { Facts } from "../System";

interface KeepProps {
  model: Model;
  /** As it is now. */
  keep: Record<string, unknown>;
  disabled: boolean;
}

/** What was typed and not applied yet. */
interface Draft {
  every?: string;
  on_pause?: boolean;
  memory?: string;
  disk?: string;
}

const PLACE = "keep";

export function Keep({ model, keep, disabled }: KeepProps) {
  const [draft, setDraft] = useState<Draft>({});
  const [fault, setFault] = useState("");
  const now = present(keep);
  const shown = { ...now, ...draft };
  const edit = (change: Draft) => { setDraft({ ...draft, ...change }); setFault(""); };
  const ask = (event: Event) => {
    event.preventDefault();
    const read = settings(draft);
    setFault(typeof read === "string" ? read : "");
    if (typeof read === "string" || !Object.keys(read).length) return;
    model.command(PLACE, { name: "keep", args: read });
    setDraft({});
  };
  const field = (name: "every" | "memory" | "disk", label: string, unit: string) => (
    <label>{label} <input type="text" class="short" value={shown[name]} placeholder="–" disabled={disabled} onInput={({ currentTarget }) => { edit({ [name]: currentTarget.value }); }} /> {unit && <small>{unit}</small>}</label>
  );
  const box = (name: "on_pause", label: string) => (
    <label><input type="checkbox" checked={shown[name]} disabled={disabled} onChange={({ currentTarget }) => { edit({ [name]: currentTarget.checked }); }} /> {label}</label>
  );
  return (
    <Facts title="By themselves">
      <form class="field" onSubmit={ask} noValidate>
        {field("every", "every", "steps (0: not)")}
        {box("on_pause", "on each pause")}
        {field("memory", "at most", "in memory")}
        {field("disk", "and", "on disk")}
        <button disabled={disabled || !Object.keys(draft).length || model.commands.pending(PLACE) !== null}>Apply</button>
        <div class="under">{fault ? <p class="said wrong" role="alert">{fault}</p> : <Outcome model={model} place={PLACE} room />}</div>
      </form>
    </Facts>
  );
}

function present(keep: Record<string, unknown>) {
  const size = (value: unknown) => (typeof value === "number" ? sized(value) : "");
  const { every, on_pause, memory, disk } = keep;
  return {
    every: typeof every === "number" ? String(every) : "", on_pause: on_pause === true, memory: size(memory), disk: size(disk),
  };
}

/** Only what was changed; a sentence where something cannot be read. */
export function settings({ every, memory, disk, ...boxes }: Draft): Settings | string {
  const found: Settings = { ...boxes };
  if (every !== undefined) {
    const read = whole(every || "0", 0, "steps");
    if (read.fault !== undefined) return read.fault;
    found.every = read.value;
  }
  for (const [name, text] of [["memory", memory], ["disk", disk]] as const) {
    if (text === undefined) continue;
    const read = bytes(text);
    if (read.fault !== undefined) return `${name}: ${read.fault}`;
    found[name] = read.value;
  }
  return found;
}
