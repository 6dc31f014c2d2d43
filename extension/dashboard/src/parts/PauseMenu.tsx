// When the script is to be held, other than now; and which such moments are set.
import { controlled, LIVE } from "../controls";
import { whole } from "../forms";
import * as format from "../format";
import type { Model } from "../model";
import type { Session } from "../protocol";
import { AskField } from "./AskField";
import { Menu } from "./Menu";
import { Outcome } from "./Outcome";

const NAMES = 8;

export function PauseMenu({ model, session }: { model: Model; session: Session }) {
  const { pauses } = controlled(session);
  const first = pauses[0];
  const refused = model.commands.at("plan")?.state === "wrong"; // perhaps after the menu was closed
  const chip = first && (pauses.length === 1 ? `pauses at ${first.text}` : `${format.count(pauses.length)} pauses planned`);
  return (
    <Menu
      label="Pause at a later moment" title={chip ? pauses.map(({ text, by }) => `${text}, by ${by || "nobody named"}`).join("\n") : "Steps, and pauses at a later moment"}
      kind="drop" disabled={model.connection !== "open" || !LIVE.has(session.state)}
      button={<>{refused ? <span class="chip warning">not planned</span> : chip && <span class="chip">{chip}</span>}<span aria-hidden="true">▾</span></>}
    >
      {() => <Moments model={model} session={session} />}
    </Menu>
  );
}

function Moments({ model, session }: { model: Model; session: Session }) {
  const paused = session.state === "paused";
  return (
    <div class="fields">
      <div class="field">
        <span>{paused ? "Run one step, then hold" : "Hold after one more step"}</span>
        <span class="grow" />
        <button onClick={() => { model.step(); }} disabled={model.commands.pending("bar") !== null}>Step <kbd>.</kbd></button>
      </div>
      <Outcome model={model} place="bar" done={false} />
      <AskField
        model={model} place="plan/steps" label="Run" unit="steps, then hold" example="100" verb="Run"
        read={(text) => { const steps = whole(text, 1, "how many steps"); return steps.fault === undefined ? { value: { name: "step", args: { steps: steps.value } } } : steps; }}
      />
      <AskField
        model={model} place="plan/at" label="Pause at step" example={String(round(session.step))} verb="Plan"
        read={(text) => { const step = whole(text, 0, "a step"); return step.fault === undefined ? { value: { name: "pause", args: { step: step.value } } } : step; }}
      />
      <AskField
        model={model} place="plan/epoch" label="Pause at epoch" example={String(session.epoch + 1)} verb="Plan"
        read={(text) => { const epoch = whole(text, 0, "an epoch"); return epoch.fault === undefined ? { value: { name: "pause", args: { epoch: epoch.value } } } : epoch; }}
      />
      <AskField
        model={model} place="plan/when" label="Pause when" example="loss < 0.1 and epoch >= 2" verb="Plan" wide
        read={(text) => (text.trim() ? { value: { name: "pause", args: { when: text.trim() } } } : { fault: "an expression over metrics, such as: loss < 0.1 and epoch >= 2" })}
      />
      <small>{`Known: step, epoch, ${model.metrics().slice(0, NAMES).join(", ")}`}</small>
      <Planned model={model} session={session} />
    </div>
  );
}

function Planned({ model, session }: { model: Model; session: Session }) {
  const { pauses } = controlled(session);
  if (!pauses.length) return null;
  return (
    <section aria-label="Planned pauses">
      <div class="field">
        <h3>Planned</h3>
        <span class="grow" />
        <button disabled={model.commands.pending("plan/cancel") !== null} onClick={() => { model.command("plan/cancel", { name: "cancel", args: {} }); }}>
          {pauses.length === 1 ? "Cancel" : "Cancel all"}
        </button>
      </div>
      <ul class="chips">
        {pauses.map(({ text, by }, place) => <li key={place} class="chip">{text} <small>{by}</small></li>)}
      </ul>
      <Outcome model={model} place="plan/cancel" />
    </section>
  );
}

/** A round number ahead, as an example. */
function round(step: number): number {
  const by = 10 ** Math.max(2, Math.floor(Math.log10(Math.max(1, step))));
  return (Math.floor(step / by) + 1) * by;
}
