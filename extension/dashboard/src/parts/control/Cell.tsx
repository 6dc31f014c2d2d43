// One number, edited where it stands: Enter applies it, Escape puts back what is there. What somebody else set meanwhile
// is shown under it, and never overwrites what is being typed.
import { useEffect, useState } from "preact/hooks";
import { numbers, typed } from "../../forms";
import { same, type Value } from "../../groups";
import type { Model } from "../../model";
import type { Set } from "../../protocol";

interface CellProps {
  model: Model;
  place: string;
  /** What is there now; null: several groups differ. */
  value: Value | null;
  like: Value;
  /** For a person: `lr of group 0`. */
  label: string;
  /** Without the value. */
  command: Omit<Set, "value">;
  disabled: boolean;
}

interface Draft {
  text: string;
  /** What was there when it was begun. */
  from: Value | null;
}

export function Cell({ model, place, value, like, label, command, disabled }: CellProps) {
  const [draft, setDraft] = useState<Draft | null>(null);
  const [fault, setFault] = useState("");
  const asked = model.commands.at(place);
  const pending = model.commands.pending(place) !== null;
  const applied = asked?.state === "applied" ? asked.id : "";
  useEffect(() => { if (applied) setDraft(null); }, [applied]);

  const now = value === null ? "" : typed(value);
  const text = draft ? draft.text : now;
  const back = () => { setDraft(null); setFault(""); };
  const apply = () => {
    if (!draft || pending || disabled) return;
    if (draft.text.trim() === now && now) {
      back();
      return;
    }
    const read = numbers(draft.text, like);
    setFault(read.fault ?? "");
    if (read.fault === undefined) model.command(place, { name: "set", args: { ...command, value: read.value } });
  };
  const wrong = fault || (asked?.state === "wrong" && draft ? asked.reason : "");
  const meanwhile = draft && !pending && !same(draft.from, value);
  return (
    <span class={`cell${draft ? " open" : ""}${pending ? " pending" : ""}`}>
      <input
        type="text" aria-label={label} value={text} placeholder={value === null ? "differ" : ""} size={Math.max(7, now.length, text.length)}
        title={hint(wrong, text, now, draft !== null)} readOnly={disabled || pending} aria-invalid={wrong !== ""} autocomplete="off" spellcheck={false}
        onFocus={({ currentTarget }) => { if (!draft) currentTarget.select(); }}
        onInput={({ currentTarget }) => { setDraft({ text: currentTarget.value, from: draft ? draft.from : value }); setFault(""); }}
        onKeyDown={(event) => {
          if (event.key === "Enter") apply();
          else if (event.key === "Escape") back();
        }}
      />
      {wrong && fault ? <small class="note warn" role="alert">{fault}</small> : meanwhile && <small class="note warn" role="status">{`now ${now || "different"}`}</small>}
    </span>
  );
}

function hint(wrong: string, text: string, now: string, open: boolean): string {
  if (wrong) return wrong;
  return open ? `${now || "several"} → ${text}: Enter applies, Escape puts back` : now;
}
