// The cards over the page in which a fork and a merge are asked for; each closes when the script has begun with it.
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import type { Command } from "../../commands";
import { controlled } from "../../controls";
import type { Filled } from "../../forking";
import type { Model } from "../../model";
import type { Session } from "../../protocol";
import { Dialog } from "../Dialog";
import { Outcome } from "../Outcome";
import { ForkFields } from "./Fork";
import { MergeFields } from "./Merge";

interface DialogsProps {
  model: Model;
  session: Session;
}

export function RunDialogs({ model, session }: DialogsProps) {
  const { runs } = model;
  const { forking, merging } = runs;
  if (forking) return <ForkFields key={JSON.stringify(forking)} model={model} session={session} forking={forking} />;
  if (merging) return <MergeFields key={merging.join()} model={model} session={session} runs={merging} />;
  return null;
}

interface CardProps {
  model: Model;
  session: Session;
  /** Of the card, and its title. */
  label: string;
  about: string;
  verb: string;
  /** What was typed. */
  filled: Filled;
  /** Why it cannot be asked now. */
  obstacle: string;
  onClose: () => void;
  children: (fault: { field: string; fault: string } | null) => ComponentChildren;
}

/** A form in a card: what is wrong stands at its field, what came of it above the button. */
export function Card({ model, session, label, about, verb, filled, obstacle, onClose, children }: CardProps) {
  const [tried, setTried] = useState(false);
  const [id, setId] = useState("");
  const close = useRef(onClose);
  close.current = onClose;
  const asked = model.commands.at("runs");
  const begun = asked !== null && asked.id === id && (asked.state === "applied" || (asked.state === "accepted" && controlled(session).progress !== null));
  useEffect(() => {
    if (!begun) return;
    close.current();
    model.open("Runs");
  }, [begun]);
  const fault = tried && filled.fault !== undefined ? filled : null;
  const send = (command: Command) => {
    model.command("runs", command);
    setId(model.commands.at("runs")?.id ?? "");
  };
  const pending = model.commands.pending("runs") !== null;
  const refused = asked !== null && asked.id === id;
  return (
    <Dialog label={label} kind="asking" onClose={onClose}>
      <form noValidate onSubmit={(event) => { event.preventDefault(); setTried(true); if (filled.command && !obstacle && !pending) send(filled.command); }}>
        <h2>{label} <small>{about}</small></h2>
        <div class="rows-of">{children(fault)}</div>
        <div class="field ends-of">
          <button class="primary" disabled={pending || obstacle !== "" || model.connection !== "open"}>{verb}</button>
          <button type="button" onClick={onClose}>Close</button>
          {obstacle && <small>{obstacle}</small>}
        </div>
        {fault && <p class="said wrong" role="alert">{`${fault.field}: ${fault.fault}`}</p>}
        {!fault && refused && <Outcome model={model} place="runs" room />}
      </form>
    </Dialog>
  );
}

interface LineProps {
  label: string;
  value: string;
  example?: string;
  title?: string;
  unit?: string;
  wide?: boolean;
  wrong?: boolean;
  first?: boolean;
  list?: string;
  onValue: (value: string) => void;
}

/** One field of it. */
export function Line({ label, value, example = "", title = "", unit = "", wide = false, wrong = false, first = false, list = "", onValue }: LineProps) {
  const id = useId();
  return (
    <span class="of">
      <label for={id}>{label}</label>
      <input
        id={id} type="text" class={wide ? "grow" : "short"} value={value} placeholder={example} {...(title && { title })} {...(list && { list })} autocomplete="off" spellcheck={false} aria-invalid={wrong} autofocus={first}
        onInput={({ currentTarget }) => { onValue(currentTarget.value); }}
      />
      {unit && <small>{unit}</small>}
    </span>
  );
}
