// What is done to the session as a whole: put it into a file, or begin again.
import { useEffect, useState } from "preact/hooks";
import { LIVE } from "../controls";
import * as format from "../format";
import type { Model } from "../model";
import type { ExportRequest, Session } from "../protocol";
import { resetCommand } from "../resumes";
import { Copy } from "./Copy";
import { Menu } from "./Menu";
import { Outcome } from "./Outcome";
import { Said } from "./Said";
import { Sure } from "./Sure";

const RESET = "bar/reset";

export function SessionMenu({ model, session }: { model: Model; session: Session }) {
  return (
    <Menu label="Export or reset the session" title="Export the session, or begin it again" button={<>Session <span aria-hidden="true">▾</span></>}>
      {() => (
        <div class="fields">
          <Export model={model} session={session} />
          <Reset model={model} session={session} />
        </div>
      )}
    </Menu>
  );
}

const PARTS = { samples: "records of samples", logs: "log", script: "the script's files" } as const;
const CHECKPOINTS = { all: "all", newest: "the newest", none: "none" } as const;

function Export({ model, session }: { model: Model; session: Session }) {
  const { storage } = model;
  const [checkpoints, setCheckpoints] = useState("all");
  const [parts, setParts] = useState({ samples: true, logs: true, script: true });
  useEffect(() => storage.watch(), [storage]);
  useEffect(() => () => { storage.dismiss(); }, [storage]);
  const wanted: ExportRequest = { checkpoints: [checkpoints], ...parts };
  const bytes = storage.of(session.id)?.bytes;
  return (
    <form class="field" onSubmit={(event) => { event.preventDefault(); void storage.export(session, wanted); }}>
      <h3>Export <small>{`everything in one file, ${session.id}.otf${bytes ? `; on the disk it takes ${format.size(bytes)}` : ""}`}</small></h3>
      <div class="under choices">
        <label>checkpoints{" "}
          <select value={checkpoints} onChange={({ currentTarget }) => { setCheckpoints(currentTarget.value); }}>
            {Object.entries(CHECKPOINTS).map(([value, words]) => <option key={value} value={value}>{words}</option>)}
          </select>
        </label>
        {(Object.keys(PARTS) as (keyof typeof PARTS)[]).map((part) => (
          <label key={part}><input type="checkbox" checked={parts[part]} onChange={({ currentTarget }) => { setParts({ ...parts, [part]: currentTarget.checked }); }} /> {PARTS[part]}</label>
        ))}
      </div>
      <button data-first class="primary" disabled={model.connection !== "open" || storage.busy}>Export</button>
      <small>{parts.logs || parts.script ? "for any machine; script and log go in as they are: look before you give it away" : "for any machine"}</small>
      <div class="under"><Said storage={storage} /></div>
    </form>
  );
}

function Reset({ model, session }: { model: Model; session: Session }) {
  const live = LIVE.has(session.state);
  const asked = model.commands.at(RESET);
  const [pending, refused] = [model.commands.pending(RESET) !== null, asked?.state === "wrong"];
  return (
    <div class="field">
      <h3>Reset <small>{live ? "back to the first step, in place, as a run of its own; nothing is deleted" : "to begin again is to start the script again"}</small></h3>
      <div class="under choices">
        {live && <Sure label="Reset" yes="Back to the first step" title="Go back to the first step; what was trained since stays in the records" disabled={model.connection !== "open" || pending} onYes={() => { model.command(RESET, { name: "reset", args: {} }); }} />}
        {!live && session.state === "imported" && <span class="muted">Where a session was imported, how its script was started is not recorded: start it in a session of its own.</span>}
        {((!live && session.state !== "imported") || refused) && <Copy text={resetCommand(session)} label="Copy reset command" />}
        {!live && session.state !== "imported" && <small>for a terminal: the same session, as a run of its own</small>}
      </div>
      <div class="under"><Outcome model={model} place={RESET} /></div>
    </div>
  );
}
