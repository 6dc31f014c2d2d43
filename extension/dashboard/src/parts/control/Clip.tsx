// Gradient clipping: off, by the norm of all, or each by its value.
import { useEffect, useState } from "preact/hooks";
import { positive } from "../../forms";
import type { Model } from "../../model";
import { Outcome } from "../Outcome";
import { Facts } from "../System";

const KINDS = ["off", "norm", "value"] as const;
type Kind = (typeof KINDS)[number];
const PLACE = "clip";

/** `clip`: as it is now, in words (`norm 1`). */
export function Clip({ model, clip, disabled }: { model: Model; clip: string; disabled: boolean }) {
  const [kind, setKind] = useState<Kind>(kindOf(clip));
  const [text, setText] = useState(clip.split(" ")[1] ?? "1");
  const [fault, setFault] = useState("");
  useEffect(() => { // also where somebody else has changed it
    setKind(kindOf(clip));
    setText((before) => clip.split(" ")[1] ?? before);
  }, [clip]);
  const ask = (event: Event) => {
    event.preventDefault();
    const read = positive(text);
    setFault(kind === "off" ? "" : (read.fault ?? ""));
    if (kind === "off") model.command(PLACE, { name: "clip", args: {} });
    else if (read.fault === undefined) model.command(PLACE, { name: "clip", args: { [kind]: read.value } });
  };
  const changed = kind !== kindOf(clip) || (kind !== "off" && text.trim() !== (clip.split(" ")[1] ?? ""));
  return (
    <Facts title="Gradient clipping">
      <form class="field" onSubmit={ask} noValidate>
        <span class="choice" role="group" aria-label="Clip gradients by">
          {KINDS.map((each) => <button key={each} type="button" class="quiet" aria-pressed={kind === each} disabled={disabled} onClick={() => { setKind(each); setFault(""); }}>{each}</button>)}
        </span>
        <input type="text" class="short" aria-label={`Largest ${kind}`} value={kind === "off" ? "" : text} disabled={disabled || kind === "off"} aria-invalid={fault !== ""} onInput={({ currentTarget }) => { setText(currentTarget.value); setFault(""); }} />
        <button disabled={disabled || !changed || model.commands.pending(PLACE) !== null}>Apply</button>
        <small>{clip ? `now by ${clip}` : "now off: as the script has them"}</small>
        <div class="under">{fault ? <p class="said wrong" role="alert">{fault}</p> : <Outcome model={model} place={PLACE} room />}</div>
      </form>
    </Facts>
  );
}

function kindOf(clip: string): Kind {
  const first = clip.split(" ")[0];
  return KINDS.find((kind) => kind === first) ?? "off";
}
