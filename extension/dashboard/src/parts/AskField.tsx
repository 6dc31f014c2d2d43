// One field and what it asks for: Enter asks, Escape empties it, what is wrong with it stands under it.
import { useEffect, useId, useState } from "preact/hooks";
import type { Command } from "../commands";
import type { Read } from "../forms";
import type { Model } from "../model";
import { Outcome } from "./Outcome";

interface AskFieldProps {
  model: Model;
  /** Of its answers. */
  place: string;
  label: string;
  example: string;
  /** On the button. */
  verb: string;
  unit?: string;
  /** What was typed, as a command. */
  read: (text: string) => Read<Command>;
  disabled?: boolean;
  wide?: boolean;
}

export function AskField({ model, place, label, example, verb, unit = "", read, disabled = false, wide = false }: AskFieldProps) {
  const [text, setText] = useState("");
  const [fault, setFault] = useState("");
  const id = useId();
  const pending = model.commands.pending(place) !== null;
  const asked = model.commands.at(place);
  const applied = asked?.state === "applied" ? asked.id : "";
  useEffect(() => { if (applied) setText(""); }, [applied]);
  const ask = (event: Event) => {
    event.preventDefault();
    const given = read(text);
    setFault(given.fault ?? "");
    if (given.fault === undefined) model.command(place, given.value);
  };
  return (
    <form class="field" onSubmit={ask} noValidate>
      <label for={id}>{label}</label>
      <input
        id={id} type="text" class={wide ? "grow" : "short"} placeholder={example} value={text} disabled={disabled} autocomplete="off" spellcheck={false}
        aria-invalid={fault !== "" || asked?.state === "wrong"} aria-describedby={`${id}-said`}
        onInput={({ currentTarget }) => { setText(currentTarget.value); setFault(""); }}
        onKeyDown={(event) => { if (event.key === "Escape") { setText(""); setFault(""); } }}
      />
      {unit && <small>{unit}</small>}
      <button disabled={disabled || pending}>{verb}</button>
      <div id={`${id}-said`} class="under">
        {fault ? <p class="said wrong" role="alert">{fault}</p> : <Outcome model={model} place={place} />}
      </div>
    </form>
  );
}
