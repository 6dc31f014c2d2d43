// The kept checkpoints, newest first.
import * as format from "../../format";
import type { Model } from "../../model";
import type { CheckpointInfo } from "../../protocol";
import { useNow } from "../now";
import { Sure } from "../Sure";

interface ListProps {
  model: Model;
  checkpoints: readonly CheckpointInfo[];
  disabled: boolean;
}

const WHY: Record<CheckpointInfo["why"], string> = { asked: "asked for", every: "every so many steps", pause: "at a pause", signal: "at Ctrl-C or SIGTERM", trial: "for a trial" };
const STATES: Record<CheckpointInfo["state"], string> = { writing: "being written", durable: "on disk", failed: "not written", memory: "in memory only" };
const HEADS = ["name", "step", "epoch", "age", "memory", "disk", "state", "why", ""];

export function List({ model, checkpoints, disabled }: ListProps) {
  const now = useNow();
  const rows = [...checkpoints].sort((a, b) => b.time - a.time);
  const pending = model.commands.pending("checkpoints") !== null;
  const back = (checkpoint: string) => { model.command("checkpoints", { name: "rewind", args: { checkpoint } }); };
  const drop = (checkpoint: string) => { model.command("checkpoints", { name: "drop", args: { checkpoint } }); };
  return (
    <div class="scroll">
      <table class="plain" aria-label="Checkpoints">
        <thead><tr>{HEADS.map((head) => <th key={head} scope="col">{head}</th>)}</tr></thead>
        <tbody>
          {rows.map((row) => (
            <tr key={row.name}>
              <td><strong class="key" title={row.name}>{row.name}</strong></td>
              <td><button class="quiet step" title="Mark it on the chart" onClick={() => { model.point(row.step); }}>{format.count(row.step)}</button></td>
              <td>{row.epoch}</td>
              <td title={format.moment(row.time)}>{format.age(now - row.time)}</td>
              <td>{format.size(row.memory)}</td>
              <td>{format.size(row.disk)}</td>
              <td class={row.state === "failed" ? "tag" : ""} title={row.fault ?? ""}>{STATES[row.state]}{row.fault && `: ${row.fault}`}</td>
              <td>{WHY[row.why]}</td>
              <td class="acts">
                {row.back
                  ? <Sure label="Go back" yes={`Go back to ${format.count(row.step)}`} title="Restore this state in place; the script stays paused" disabled={disabled || pending} onYes={() => { back(row.name); }} />
                  : <small class="reason">{row.reason ? `no way back: ${row.reason}` : "no way back now"}</small>}
                <Sure label="Delete" yes="Delete it" title={`Delete ${row.name}, in memory and on disk`} disabled={disabled || pending} onYes={() => { drop(row.name); }} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
