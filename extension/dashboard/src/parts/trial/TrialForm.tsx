// What is to be tried, and for how long.
import { useState } from "preact/hooks";
import { typed } from "../../forms";
import { columns, common } from "../../groups";
import type { Model } from "../../model";
import type { ParameterGroup } from "../../protocol";
import { command, KINDS, type Form, type Kind } from "../../trial";

interface TrialFormProps {
  model: Model;
  groups: readonly ParameterGroup[];
  disabled: boolean;
}

const EXAMPLES: Record<Kind, string> = { set: "1e-4", norm: "1", value: "0.5", freeze: "encoder.*", unfreeze: "encoder.*" };

export function TrialForm({ model, groups, disabled }: TrialFormProps) {
  const names = columns(groups);
  const [form, setForm] = useState<Form>({ steps: "50", kind: "set", name: "lr", text: "" });
  const [fault, setFault] = useState("");
  const edit = (change: Partial<Form>) => { setForm({ ...form, ...change }); setFault(""); };
  const now = form.kind === "set" ? common(groups, form.name) : null;
  const ask = (event: Event) => {
    event.preventDefault();
    const read = command(form, groups);
    setFault(read.fault ?? "");
    if (read.fault === undefined) model.command("trial", read.value);
  };
  return (
    <form class="field" onSubmit={ask} noValidate>
      <label>Train <input type="text" class="short" value={form.steps} disabled={disabled} onInput={({ currentTarget }) => { edit({ steps: currentTarget.value }); }} /> steps as it is, and the same with</label>
      <select aria-label="The change" value={form.kind} disabled={disabled} onChange={({ currentTarget }) => { edit({ kind: currentTarget.value as Kind, text: "" }); }}>
        {Object.entries(KINDS).map(([kind, label]) => <option key={kind} value={kind}>{label}</option>)}
      </select>
      {form.kind === "set" && (
        <select aria-label="Which number" value={form.name} disabled={disabled} onChange={({ currentTarget }) => { edit({ name: currentTarget.value }); }}>
          {(names.length ? names : ["lr"]).map((name) => <option key={name} value={name}>{name}</option>)}
        </select>
      )}
      <input type="text" class="short" aria-label="Its new value" placeholder={EXAMPLES[form.kind]} value={form.text} disabled={disabled} onInput={({ currentTarget }) => { edit({ text: currentTarget.value }); }} />
      {now && <small class="figures">{`now ${now.value === null ? "different" : typed(now.value)}`}</small>}
      <button disabled={disabled || model.commands.pending("trial") !== null}>Try it</button>
      <div class="under">{fault ? <p class="said wrong" role="alert">{fault}</p> : <p class="remark">Nothing is lost: the state of now is kept, and you choose afterwards how the script goes on.</p>}</div>
    </form>
  );
}
