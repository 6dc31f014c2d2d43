// A number with its name: Enter applies it, Escape puts back what is there.
import { useState } from "preact/hooks";
import type { Read } from "../../forms";

interface ParameterProps {
  label: string;
  value: string;
  disabled: boolean;
  read: (text: string) => Read<number>;
  onApply: (value: number) => void;
}

export function Parameter({ label, value, disabled, read, onApply }: ParameterProps) {
  const [draft, setDraft] = useState<string | null>(null);
  const [fault, setFault] = useState("");
  const back = () => { setDraft(null); setFault(""); };
  const apply = () => {
    if (draft === null || draft.trim() === value) {
      back();
      return;
    }
    const given = read(draft);
    setFault(given.fault ?? "");
    if (given.fault !== undefined) return;
    onApply(given.value);
    setDraft(null);
  };
  return (
    <label class={draft === null ? "cell" : "cell open"}>
      <small>{label}</small>
      <input
        type="text" size={6} value={draft ?? value} readOnly={disabled} aria-invalid={fault !== ""} title={fault || "Enter applies, Escape puts back"}
        onInput={({ currentTarget }) => { setDraft(currentTarget.value); setFault(""); }}
        onKeyDown={({ key }) => {
          if (key === "Enter") apply();
          else if (key === "Escape") back();
        }}
      />
      {fault && <small class="note warn" role="alert">{fault}</small>}
    </label>
  );
}
