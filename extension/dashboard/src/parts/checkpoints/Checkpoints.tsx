// The checkpoints that are kept: to make one, to go back to one, to delete one, and when they are made by themselves.
import { controlled, LIVE } from "../../controls";
import { name } from "../../forms";
import { AskField } from "../AskField";
import { Outcome } from "../Outcome";
import type { TabProps } from "../Tabs";
import { Keep } from "./Keep";
import { List } from "./List";
import { Receipts } from "./Receipts";

export function Checkpoints({ model, session }: TabProps) {
  const { checkpoints, keep } = controlled(session);
  const disabled = model.connection !== "open" || !LIVE.has(session.state);
  return (
    <>
      <AskField
        model={model} place="checkpoint" label="Keep the state of this moment" example="name (optional)" wide verb="Checkpoint now" disabled={disabled}
        read={(text) => {
          const read = text.trim() ? name(text) : { value: "" };
          return read.fault === undefined ? { value: { name: "checkpoint", args: read.value ? { name: read.value } : {} } } : read;
        }}
      />
      {checkpoints.length
        ? <List model={model} session={session} checkpoints={checkpoints} disabled={disabled} />
        : <p class="empty">None is kept. One holds everything that has state: parameters, optimizers, schedulers, random numbers, the place in the data.</p>}
      <Outcome model={model} place="checkpoints" room />
      <Receipts model={model} receipts={session.receipts ?? []} />
      <Keep model={model} keep={keep} disabled={disabled} />
    </>
  );
}
