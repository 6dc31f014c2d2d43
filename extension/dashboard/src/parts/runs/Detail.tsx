// All that is known of one run, and what can be done with it alone.
import * as format from "../../format";
import { facts, type Node } from "../../lineage";
import type { Model } from "../../model";
import type { Session } from "../../protocol";
import { Spark } from "../Spark";

interface DetailProps {
  model: Model;
  session: Session;
  node: Node;
}

export function Detail({ model, session, node }: DetailProps) {
  const { run, current, reason, held } = node;
  const known = model.runs.losses.get(run);
  const shown = (model.picked || session.run) === run;
  const disabled = model.connection !== "open" || model.commands.pending("runs") !== null;
  return (
    <aside class="detail-of" aria-label={`Run ${run}`}>
      <h3><span class="name">{run}</span> <small>{[node.kind, current ? "current" : held ? "held by the script's process" : ""].filter(Boolean).join(", ")}</small></h3>
      <dl>{facts(node).map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}</dl>
      {known && known.values.length > 1 && (
        <figure class="losses">
          <Spark values={known.values} />
          <figcaption>{`loss, with what it began from; last ${format.loss(known.last)}${known.mean ? ", the mean of several steps" : ""}`}</figcaption>
        </figure>
      )}
      <p class="field">
        <button disabled={disabled || reason !== ""} title={reason || "The script goes on with it, from where it was left"} onClick={() => { model.command("runs", { name: "switch", args: { run } }); }}>Switch to it</button>
        <button disabled={shown} title={shown ? "It is shown" : "Curves, samples and map of it, above and in the other tabs"} onClick={() => { model.look(current ? "" : run); }}>Look at it</button>
        {!current && reason && <small class="under">{`No switch: ${reason}.`}</small>}
      </p>
    </aside>
  );
}
