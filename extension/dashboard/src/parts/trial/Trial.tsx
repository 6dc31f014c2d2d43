// A trial (A/B): the same steps without and with a change, on the same data; then a choice.
import { controlled, LIVE } from "../../controls";
import * as format from "../../format";
import type { Model } from "../../model";
import type { Choose, TrialInfo } from "../../protocol";
import { effect } from "../../trial";
import { Outcome } from "../Outcome";
import type { TabProps } from "../Tabs";
import { Comparison } from "./Comparison";
import { TrialForm } from "./TrialForm";

export function Trial({ model, session }: TabProps) {
  const { trial, groups } = controlled(session);
  const disabled = model.connection !== "open" || !LIVE.has(session.state);
  const over = !trial || trial.phase === "over";
  return (
    <>
      {over && <TrialForm model={model} groups={groups} disabled={disabled} />}
      {!trial && <Outcome model={model} place="trial" room />}
      {trial && <Result model={model} trial={trial} disabled={disabled} />}
    </>
  );
}

const CHOICES: [Choose["keep"], string, string][] = [
  ["with", "With", "Go on from the end of the steps with the change"],
  ["without", "Without", "Go on from the end of the steps without the change"],
  ["neither", "Neither", "Go back to where both began"],
];

function Result({ model, trial, disabled }: { model: Model; trial: TrialInfo; disabled: boolean }) {
  const { change, phase, steps, start } = trial;
  const done = phase === "without" ? (trial.without ?? []).length : phase === "with" ? (trial.changed ?? []).length : steps;
  return (
    <section aria-label="The trial">
      <div class="field">
        <h3>{change.replace("->", "→")}</h3>
        <small>{`${format.counted(steps, "step")} from step ${format.count(start)}, on the same data`}</small>
        <span class="grow" />
        {(phase === "without" || phase === "with") && (
          <>
            <progress max={steps} value={done} aria-label="Steps of this half" />
            <small class="figures">{`${phase} the change: ${format.count(done)} of ${format.count(steps)}`}</small>
          </>
        )}
        {phase === "choose" && <small>go on:</small>}
        {phase === "choose" && CHOICES.map(([keep, label, title]) => (
          <button key={keep} title={title} disabled={disabled || model.commands.pending("trial") !== null} onClick={() => { model.command("trial", { name: "choose", args: { keep } }); }}>{label}</button>
        ))}
        {phase === "over" && <small>over</small>}
      </div>
      <Outcome model={model} place="trial" room />
      <Comparison trial={trial} />
      <p class="verdict">{trial.verdict && <strong>{trial.verdict}</strong>} <span class="figures muted">{effect(trial, format.loss)}</span></p>
    </section>
  );
}
