// The watchdogs, what each does when it finds something, and what they have found.
import { useState } from "preact/hooks";
import { text } from "../../changes";
import { controlled, LIVE } from "../../controls";
import * as format from "../../format";
import type { Model } from "../../model";
import { Outcome } from "../Outcome";
import type { TabProps } from "../Tabs";
import { Findings } from "./Findings";
import { WatchRow } from "./WatchRow";

const HEADS = ["watchdog", "cost", "when it finds something", "parameters", "found"];

export function Watchdogs({ model, session }: TabProps) {
  const { watches, findings } = controlled(session);
  const disabled = model.connection !== "open" || !LIVE.has(session.state);
  return (
    <>
      {watches.length > 0 && (
        <div class="scroll">
          <table class="plain edit" aria-label="Watchdogs">
            <thead><tr>{HEADS.map((head) => <th key={head} scope="col">{head}</th>)}</tr></thead>
            <tbody>{watches.map((watch) => <WatchRow key={watch.alarm} model={model} watch={watch} disabled={disabled} />)}</tbody>
          </table>
        </div>
      )}
      <Outcome model={model} place="watch" room />
      <Diagnosis model={model} paused={session.state === "paused"} disabled={disabled} />
      <Findings model={model} findings={findings} />
    </>
  );
}

/** Where a value that is no number comes from. */
function Diagnosis({ model, paused, disabled }: { model: Model; paused: boolean; disabled: boolean }) {
  const [asked, setAsked] = useState(false);
  const answer = model.commands.at("diagnose");
  const found = answer?.state === "applied" ? Object.entries(answer.answer?.result ?? {}) : [];
  return (
    <div class="field apart">
      <button disabled={disabled || !paused || model.commands.pending("diagnose") !== null} onClick={() => { setAsked(true); model.command("diagnose", { name: "diagnose", args: {} }); }}>
        Find the first operation that is not finite
      </button>
      <small>{paused ? "Runs the script's next step again, and puts everything back." : "At a pause: the script's next step is run again for it."}</small>
      {asked && <div class="under"><Outcome model={model} place="diagnose" /></div>}
      {found.length > 0 && <dl class="under">{found.map(([key, value]) => <div key={key}><dt>{key}</dt><dd class="figures">{typeof value === "number" ? format.value(value) : text(value)}</dd></div>)}</dl>}
    </div>
  );
}
