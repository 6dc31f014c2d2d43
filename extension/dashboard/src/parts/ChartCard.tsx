// The main card: any metric as a curve, by step, epoch or time; what it cannot show is said under it.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { AXES, onlyOneEpoch, type Axis } from "../axis";
import { grain, hidden, type Range } from "../chart";
import { controlled } from "../controls";
import { CSV_POINTS, csv, fileName, picture } from "../download";
import * as format from "../format";
import { why } from "../hub";
import { markers } from "../markers";
import { BESIDE, kind } from "../metrics";
import type { Model } from "../model";
import type { Series as Table, Session } from "../protocol";
import { MAX_BAD, type Series } from "../series";
import { Chart } from "./Chart";

const VALIDATION = "validation";

/** Of the plot, in CSS pixels: most of a window's height, within reason. */
const height = () => Math.round(Math.min(560, Math.max(240, window.innerHeight * 0.4)));

export function ChartCard({ model, session }: { model: Model; session: Session }) {
  const card = useRef<HTMLElement>(null);
  const [axis, setAxis] = useState<Axis>("step");
  const [log, setLog] = useState(false);
  const [zoom, setZoom] = useState<Range | null>(null);
  const names = model.metrics();
  const metric = names.includes(model.metric) ? model.metric : "loss";
  const series = model.curve(metric);
  const known = kind(metric);
  const other = BESIDE.get(metric);
  const found = other ? model.curve(other) : null;
  const beside = found?.length ? found : null;
  useEffect(() => { setZoom(null); }, [session.id, metric, axis]);
  const { entries } = model.journal;
  const { findings } = controlled(session);
  const newest = findings[findings.length - 1]?.time;
  // The list of findings is a new one with each message; its newest tells whether it is another.
  const marked = useMemo(() => markers(entries, findings, model.pointed), [entries, findings.length, newest, model.pointed]);
  useEffect(() => { if (model.pointed !== null) setZoom(null); }, [model.pointed]);

  return (
    <section ref={card} class="card" aria-label={known.label}>
      <div class="head">
        <h2>
          <span class="metric">{known.label}</span> <small>{beside ? "training" : known.about}</small>
        </h2>
        {series.length > 0 && <b class="figures">{(metric === "loss" ? format.loss(model.loss(series)) : format.value(last(series))) + known.unit}</b>}
        {beside && <span class="legend"><i class="ring" aria-hidden="true" />{VALIDATION} <b class="figures">{format.value(last(beside)) + known.unit}</b></span>}
        <span class="tools">
          {names.length > 1 && (
            <select aria-label="Metric" value={metric} onChange={(event) => { model.choose(event.currentTarget.value); }}>
              {names.map((name) => <option key={name} value={name}>{name}</option>)}
            </select>
          )}
          <span class="choice" role="group" aria-label="X axis">
            {AXES.map((name) => <button key={name} class="quiet" aria-pressed={axis === name} onClick={() => { setAxis(name); }}>{name}</button>)}
          </span>
          <span class="choice">
            <button class="quiet" aria-pressed={log} title="Logarithmic value axis" onClick={() => { setLog(!log); }}>log</button>
            {zoom && <button class="quiet" title="Show the whole curve (double click on it)" onClick={() => { setZoom(null); }}>whole</button>}
          </span>
          <Downloads model={model} session={session} metric={metric} axis={axis} beside={beside !== null} empty={!series.length} card={() => card.current} />
        </span>
      </div>
      {series.length > 0
        ? <Chart series={series} kind={known} beside={beside} called={VALIDATION} axis={axis} log={log} height={height} zoom={zoom} onZoom={setZoom} marked={marked} />
        : <p class="empty plotless">{nothing(metric, session)}</p>}
      {series.length > 0 && session.world_size > 1 && <p class="remark">{`The values of all ${session.world_size} ranks, in the order in which they came.`}</p>}
      <Remarks series={series} beside={beside} axis={axis} log={log} zoom={zoom} />
    </section>
  );
}

/** What a glance at the curve would not tell. */
function Remarks({ series, beside, axis, log, zoom }: { series: Series; beside: Series | null; axis: Axis; log: boolean; zoom: Range | null }) {
  const steps = grain(series, axis, zoom);
  const left = log ? hidden(series) + (beside ? hidden(beside) : 0) : 0;
  return (
    <>
      {steps !== null && <p class="remark">{`Each point is the mean of ${steps < 1.5 ? "several values" : `about ${format.count(Math.round(steps))} steps`}; the band is their lowest and highest value.`}</p>}
      {axis === "epoch" && onlyOneEpoch(series) && <p class="remark">The length of an epoch is known once one is over: until then the points are spread over the whole of it.</p>}
      {left > 0 && <p class="warn">{`${format.counted(left, "point holds", "points hold")} values at or below 0, which a logarithmic axis cannot show.`}</p>}
      <Bad series={series} of="" />
      {beside && <Bad series={beside} of={` of ${VALIDATION}`} />}
    </>
  );
}

function Bad({ series: { bad }, of }: { series: Series; of: string }) {
  if (!bad.length) return null;
  const many = bad.length === MAX_BAD ? `${MAX_BAD} or more values${of} are` : format.counted(bad.length, `value${of} is`, `values${of} are`);
  return <p class="warn">{`${many} NaN or infinite, first at step ${format.count(bad[0] ?? 0)}.`}</p>;
}

const last = (series: Series) => series.at(series.length - 1).value;

function nothing(metric: string, session: Session): string {
  if (metric !== "loss") return `Waiting for the values of ${metric}.`;
  return ["starting", "running"].includes(session.state) ? "No loss yet: the script has not called backward." : "This session has no losses.";
}

interface DownloadProps {
  model: Model;
  session: Session;
  metric: string;
  axis: Axis;
  beside: boolean;
  empty: boolean;
  card: () => HTMLElement | null;
}

function Downloads({ model, session, metric, axis, beside, empty, card }: DownloadProps) {
  const [told, setTold] = useState("");
  useEffect(() => { setTold(""); }, [session.id, metric]);
  const asPicture = () => {
    const chart = card()?.querySelector("canvas");
    if (!chart) return;
    const detail = `${session.name} / ${session.run} · ${session.id} · step ${format.count(session.step)}${beside ? ` · dots: ${VALIDATION}` : ""}`;
    picture(chart, { title: kind(metric).label, detail, axis }).toBlob((content) => {
      if (content) void model.hub.save(fileName(session.id, metric, "png"), content);
    });
  };
  const asTable = async () => {
    try {
      const query = `name=${encodeURIComponent(metric)}&run=${session.run}&points=${CSV_POINTS}`;
      const table = (await model.hub.get(`sessions/${session.id}/metrics?${query}`)) as Table;
      await model.hub.save(fileName(session.id, metric, "csv"), new Blob([csv(table)], { type: "text/csv" }));
      setTold(table.bucketed ? `${format.counted(table.step.length, "row")} saved, each the mean of several values` : "");
    } catch (error) {
      setTold(why(error, "such table"));
    }
  };
  return (
    <span class="choice">
      {told && <small role="status">{told}</small>}
      <button class="quiet" disabled={empty} title="Save the chart as a picture" onClick={asPicture}>PNG</button>
      <button class="quiet" disabled={empty} title="Save the values as a table" onClick={() => void asTable()}>CSV</button>
    </span>
  );
}
