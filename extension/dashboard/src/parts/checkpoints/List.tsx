// The kept checkpoints, newest first.
import * as format from "../../format";
import type { Model } from "../../model";
import type { CheckpointInfo, Session } from "../../protocol";
import { obstacle, resumeCommand } from "../../resumes";
import { Copy } from "../Copy";
import { useNow } from "../now";
import { Sure } from "../Sure";

interface ListProps {
  model: Model;
  session: Session;
  checkpoints: readonly CheckpointInfo[];
  disabled: boolean;
}

const WHY: Record<CheckpointInfo["why"], string> = { asked: "asked for", every: "made by itself", pause: "at a pause", signal: "at Ctrl-C or SIGTERM", trial: "for a trial", run: "where a run was left", end: "at the script's end" };
const STATES: Record<CheckpointInfo["state"], string> = { writing: "being written", durable: "durable", failed: "not written", memory: "none: in memory only" };
const HEADS = ["name", "step", "age", "size", "file", ""];

export function List({ model, session, checkpoints, disabled }: ListProps) {
  const now = useNow();
  const rows = [...checkpoints].sort((a, b) => b.time - a.time);
  const pending = model.commands.pending("checkpoints") !== null;
  const back = (checkpoint: string) => { model.command("checkpoints", { name: "rewind", args: { checkpoint } }); };
  const drop = (checkpoint: string) => { model.command("checkpoints", { name: "drop", args: { checkpoint } }); };
  return (
    <div class="scroll">
      <table class="plain two" aria-label="Checkpoints">
        <thead><tr>{HEADS.map((head) => <th key={head} scope="col">{head}</th>)}</tr></thead>
        <tbody>
          {rows.map((row) => (
            <tr key={row.name}>
              <td><strong class="key" title={row.name}>{row.name}</strong><small>{WHY[row.why]}</small></td>
              <td><button class="quiet step" title="Mark it on the chart" onClick={() => { model.point(row.step); }}>{format.count(row.step)}</button><small>{`epoch ${row.epoch}`}</small></td>
              <td title={format.moment(row.time)}>{format.age(now - row.time)}</td>
              <td>{format.size(row.memory)}<small>{row.disk ? `${format.size(row.disk)} on disk` : "in memory"}</small></td>
              <td class="file"><span class={row.state === "failed" ? "tag" : ""}>{STATES[row.state]}</span>{row.fault && <small title={row.fault}>{row.fault}</small>}</td>
              <td class="acts">
                {row.back
                  ? <Sure label="Go back" yes={`Go back to ${format.count(row.step)}`} title="Restore this state in place; the script stays paused" disabled={disabled || pending} onYes={() => { back(row.name); }} />
                  : null}
                <Sure label="Delete" yes="Delete it" title={`Delete ${row.name}, in memory and on disk`} disabled={disabled || pending} onYes={() => { drop(row.name); }} />
                {!obstacle(row) && <Copy text={resumeCommand(session, row)} label="Copy resume command" />}
                {obstacle(row) && row.state !== "writing" && <small class="reason">{`no resume in another process: ${obstacle(row)}`}</small>}
                {!row.back && <small class="reason">{row.reason ? `no way back: ${row.reason}` : "no way back now"}</small>}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
