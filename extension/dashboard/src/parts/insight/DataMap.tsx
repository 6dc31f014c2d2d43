// The data set as the model sees it: embeddings in two dimensions, clusters ranked by loss, a lasso.
import { useEffect, useState } from "preact/hooks";
import type { Request } from "../../explore";
import * as format from "../../format";
import type { Colour } from "../../maps";
import type { Model } from "../../model";
import type { SampleMap } from "../../protocol";
import { named } from "../../tagging";
import { Outcome } from "../Outcome";
import { ForkOn } from "../runs/ForkOn";
import type { TabProps } from "../Tabs";
import { Scatter } from "./Scatter";

const COLOURS: Colour[] = ["loss", "class", "cluster"];
const NUMBERS = [2, 3, 4, 6, 8, 10, 12, 16, 24, 32];

export function DataMap({ model, session }: TabProps) {
  const { maps } = model;
  const { map } = maps;
  useEffect(() => { maps.ask(); }, [maps, session.id, session.run, model.evaluations.rows.length]);
  return (
    <section aria-label="Map of the samples">
      <div class="field">
        {map && map.evaluations.length > 1 && (
          <select aria-label="Which scan" value={map.evaluation} onChange={({ currentTarget }) => { maps.ask({ evaluation: currentTarget.value }); }}>
            {map.evaluations.map((name) => <option key={name} value={name}>{name}</option>)}
          </select>
        )}
        {map && (
          <span class="choice" role="group" aria-label="Colour by">
            <small>colour by</small>
            {COLOURS.map((colour) => <button key={colour} class="quiet" aria-pressed={maps.colour === colour} disabled={colour === "class" && map.target.every((value) => value === null)} onClick={() => { maps.paint(colour); }}>{colour}</button>)}
          </span>
        )}
        <label><small>clusters</small> <select aria-label="How many clusters" value={String(maps.asked.clusters)} onChange={({ currentTarget }) => { maps.ask({ clusters: Number(currentTarget.value) }); }}>{NUMBERS.map((number) => <option key={number} value={String(number)}>{number}</option>)}</select></label>
        <span class="choice" role="group" aria-label="Method">
          {(["pca", "umap"] as const).map((method) => <button key={method} class="quiet" aria-pressed={maps.asked.method === method} title={method === "pca" ? "The two directions that vary most" : "Neighbours stay neighbours; needs the extra explorer where the hub runs"} onClick={() => { maps.ask({ method }); }}>{method.toUpperCase()}</button>)}
        </span>
        {maps.busy && <small role="status">Computing…</small>}
      </div>
      {maps.fault && <p class={map ? "said wrong" : "empty"} role="status">{maps.fault}</p>}
      {!map && !maps.busy && <Make model={model} paused={session.state === "paused"} />}
      {map && <Shown model={model} map={map} />}
    </section>
  );
}

/** A scan with embeddings, at a pause. */
function Make({ model, paused }: { model: Model; paused: boolean }) {
  const [module, setModule] = useState("");
  return (
    <form class="field" onSubmit={(event) => { event.preventDefault(); model.command("scan", { name: "scan", args: { module } }); }}>
      <label>Scan with the output of the module <input type="text" value={module} placeholder="features" onInput={({ currentTarget }) => { setModule(currentTarget.value); }} /></label>
      <button disabled={!paused || !module || model.commands.pending("scan") !== null}>Scan</button>
      <small>{paused ? "All samples that are trained on, once, without a gradient; the script does not notice." : "At a pause."}</small>
      <div class="under"><Outcome model={model} place="scan" /></div>
    </form>
  );
}

function Shown({ model, map }: { model: Model; map: SampleMap }) {
  const { maps, explore } = model;
  const many = map.total > map.x.length ? ` (every ${format.count(Math.ceil(map.total / map.x.length))}th of ${format.count(map.total)})` : "";
  const describe = (place: number) => [
    `sample ${map.sample[place] ?? map.key[place] ?? "–"}`, `loss ${format.loss(map.loss[place])}`, map.target[place] === null ? "" : `label ${map.target[place] ?? ""}`,
    map.predicted[place] === null ? "" : `model says ${map.predicted[place] ?? ""}`, `cluster ${map.cluster[place] ?? ""}`,
  ].filter(Boolean).join(" · ");
  const meant = (): Request => {
    const chosen = [...maps.chosen].map((place) => ({ sample: map.sample[place] ?? null, key: map.key[place] ?? null }));
    return { select: named(chosen), phase: "scan", evaluation: map.evaluation };
  };
  const look = () => {
    explore.select(meant());
    model.open("Samples");
  };
  return (
    <div class="sides map">
      <div>
        <Scatter map={map} colour={maps.colour} chosen={maps.chosen} onChoose={(places) => { maps.choose(places); }} describe={describe} />
        <p class="field">
          <strong class="figures">{`${format.count(maps.chosen.size)} chosen`}</strong>
          <button disabled={!maps.chosen.size} onClick={look}>Look at them</button>
          <ForkOn model={model} request={maps.chosen.size ? meant : null} />
          <button class="quiet" disabled={!maps.chosen.size} onClick={() => { maps.choose([]); }}>none</button>
          <small class="figures">{`${map.evaluation}: ${format.count(map.x.length)} samples${many}${map.explained === null ? "" : ` · both axes together: ${format.percent(map.explained)} of the variance`}`}</small>
        </p>
      </div>
      <Clusters model={model} map={map} />
    </div>
  );
}

function Clusters({ model: { maps }, map }: { model: Model; map: SampleMap }) {
  return (
    <table aria-label="Clusters, the highest mean loss first">
      <thead><tr><th scope="col">cluster</th><th scope="col">samples</th><th scope="col">mean loss</th></tr></thead>
      <tbody>
        {map.clusters.map(({ number, count, loss }) => {
          const choose = () => { maps.choose(map.cluster.flatMap((each, place) => (each === number ? [place] : []))); };
          return <tr key={number} onClick={choose}><td><button class="quiet step" onClick={(event) => { event.stopPropagation(); choose(); }}>{number}</button></td><td>{format.count(count)}</td><td>{format.loss(loss)}</td></tr>;
        })}
      </tbody>
    </table>
  );
}
