// How far the thing has come that runs at a pause, and a way to end it.
import { controlled } from "../controls";
import * as format from "../format";
import type { Model } from "../model";
import type { Session } from "../protocol";

export function Progress({ model, session }: { model: Model; session: Session }) {
  const { progress: now } = controlled(session);
  if (!now) return null;
  return (
    <span class="field" role="status">
      <progress max={now.of || undefined} value={now.of ? now.done : undefined} aria-label={`Progress of ${now.what}`} />
      <small class="figures">{`${now.what}: ${format.count(now.done)}${now.of ? ` of ${format.count(now.of)}` : ""}`}</small>
      <button type="button" title="End it, keeping what it has" disabled={model.commands.pending("cancel") !== null} onClick={() => { model.command("cancel", { name: "cancel", args: {} }); }}>Cancel</button>
    </span>
  );
}
