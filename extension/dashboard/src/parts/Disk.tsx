// What each session takes on the disk, and what can be done about it.
import { LIVE } from "../controls";
import * as format from "../format";
import type { Model } from "../model";
import type { Session, SessionStorage } from "../protocol";
import { Sure } from "./Sure";

const KEPT: Record<string, string> = { running: "stays: its script runs", pinned: "pinned: stays", imported: "stays: it was imported", newest: "stays: the newest that ended" };
const HEADS = ["session", "on the disk", "when room is needed", ""];

export function Disk({ model, sessions }: { model: Model; sessions: readonly Session[] }) {
  const { storage } = model;
  if (!storage.answer) return <p class="empty">{storage.fault || "Looking at the disk…"}</p>;
  const { bytes, budget, free, place } = storage.answer;
  return (
    <>
      <p class="total">
        <strong>{bytes ? format.size(bytes) : "nothing"}</strong> {budget ? `of ${format.size(budget)}` : "and no limit"}
        {budget > 0 && <progress value={Math.min(bytes, budget)} max={budget} aria-label="Share of the budget" />}
        <small>{`${format.size(free)} free on the disk · ${place}`}</small>
      </p>
      {budget > 0 && <p class="remark">Beyond that, the oldest that may go are deleted. ONTHEFLY_DATA_BUDGET sets how much all may take.</p>}
      {sessions.length > 0 && <div class="scroll high">
        <table class="plain two" aria-label="Sessions on the disk">
          <thead><tr>{HEADS.map((head) => <th key={head} scope="col">{head}</th>)}</tr></thead>
          <tbody>{sessions.map((session) => <Row key={session.id} model={model} session={session} takes={storage.of(session.id)} />)}</tbody>
        </table>
      </div>}
    </>
  );
}

function Row({ model, session, takes }: { model: Model; session: Session; takes: SessionStorage | undefined }) {
  const { id, name, state, started } = session;
  const pinned = takes?.pinned ?? session.pinned ?? false;
  const disabled = model.connection !== "open" || model.storage.busy;
  return (
    <tr>
      <td class="text"><strong>{name}</strong><small>{[id, state, format.moment(started)].join(" · ")}</small></td>
      <td>{takes ? format.size(takes.bytes) : "–"}<small>{takes?.checkpoints ? `checkpoints ${format.size(takes.checkpoints)}` : "no checkpoint"}</small></td>
      <td>{takes ? (KEPT[takes.kept] ?? "may be deleted") : "–"}</td>
      <td class="acts">
        <button disabled={disabled} aria-label={`${pinned ? "Unpin" : "Pin"} ${name} (${id})`} title={pinned ? "It may be deleted when room is needed" : "Keep it, whatever the budget"} onClick={() => void model.storage.pin(session, !pinned)}>{pinned ? "Unpin" : "Pin"}</button>
        {LIVE.has(state)
          ? <small class="reason">runs: stop it to delete it</small>
          : <Sure label="Delete" yes="Delete for good" title={`Delete session ${id}: records, log, checkpoints`} disabled={disabled} onYes={() => void model.remove(session)} />}
      </td>
    </tr>
  );
}
