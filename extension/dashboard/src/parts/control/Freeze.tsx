// Parameters that are kept as they are, by the pattern of their names.
import * as format from "../../format";
import type { Model } from "../../model";
import { AskField } from "../AskField";
import { Outcome } from "../Outcome";
import { Facts } from "../System";

interface FreezeProps {
  model: Model;
  patterns: readonly string[];
  /** Numbers that are frozen. */
  count: number;
  disabled: boolean;
}

export function Freeze({ model, patterns, count, disabled }: FreezeProps) {
  const unfreeze = (pattern?: string) => { model.command("unfreeze", { name: "unfreeze", args: pattern === undefined ? {} : { pattern } }); };
  const pending = model.commands.pending("unfreeze") !== null;
  return (
    <Facts title="Frozen parameters">
      <AskField
        model={model} place="freeze" label="Freeze" example="encoder.* or *.bias" verb="Freeze" disabled={disabled} wide
        read={(text) => (text.trim() ? { value: { name: "freeze", args: { pattern: text.trim() } } } : { fault: "a pattern of names, such as encoder.*" })}
      />
      <div class="field">
        <small>{count ? `${format.count(count)} numbers are kept as they are` : "none: all are trained as the script has it"}</small>
        <ul class="chips" aria-label="Frozen patterns">
          {patterns.map((pattern) => (
            <li key={pattern} class="chip">
              {pattern}
              {!pattern.startsWith("all but ") && <button class="quiet" aria-label={`Unfreeze ${pattern}`} title="Train these again" disabled={disabled || pending} onClick={() => { unfreeze(pattern); }}>×</button>}
            </li>
          ))}
        </ul>
        {count > 0 && <button disabled={disabled || pending} onClick={() => { unfreeze(); }}>Unfreeze all</button>}
        <div class="under"><Outcome model={model} place="unfreeze" /></div>
      </div>
    </Facts>
  );
}
