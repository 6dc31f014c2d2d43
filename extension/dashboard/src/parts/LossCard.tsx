// The loss curve: the raw values under a centred smoothing, spikes kept at every zoom, what is no number marked.
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import * as format from "../format";
import type { Model } from "../model";
import { smooth, type Series } from "../series";

/** Of the plot, in CSS pixels: most of a window's height, within reason. */
const height = () => Math.round(Math.min(560, Math.max(260, window.innerHeight * 0.46)));
// uPlot's constant enum, whose names exist for the compiler only.
const LINEAR: number = 1;
const LOGARITHMIC: number = 3;

function colour(element: Element, name: string): string {
  return getComputedStyle(element).getPropertyValue(name).trim();
}

function data(series: Series, log: boolean): uPlot.AlignedData {
  const shown = (values: number[]) => values.map((value) => (Number.isFinite(value) && (!log || value > 0) ? value : null));
  const reach = Math.max(1, Math.round(series.length / 60));
  return [series.step, shown(series.low), shown(series.high), shown(series.value), shown(smooth(series.value, reach))];
}

function options(element: Element, log: boolean, series: () => Series): uPlot.Options {
  const accent = colour(element, "--accent");
  const faint = colour(element, "--accent-faint");
  const axis: uPlot.Axis = {
    stroke: colour(element, "--muted"),
    grid: { stroke: colour(element, "--line"), width: 1 },
    ticks: { show: false },
    font: "12px system-ui, sans-serif",
  };
  return {
    width: element.clientWidth,
    height: height(),
    legend: { show: false },
    cursor: { y: false, drag: { x: true, y: false } },
    // eslint-disable-next-line @typescript-eslint/no-unsafe-enum-assignment -- see LINEAR
    scales: { x: { time: false }, y: { distr: log ? LOGARITHMIC : LINEAR } },
    axes: [axis, { ...axis, size: 56, values: (_, ticks) => ticks.map((tick) => String(Number(tick.toPrecision(4)))) }],
    bands: [{ series: [2, 1], fill: faint }],
    series: [
      {},
      { stroke: "transparent", points: { show: false } },
      { stroke: "transparent", points: { show: false } },
      { stroke: colour(element, "--accent-soft"), width: 1, points: { show: false } },
      { stroke: accent, width: 2, points: { show: false } },
    ],
    hooks: { draw: [(plot) => { marks(plot, series().bad, colour(element, "--warning")); }] },
  };
}

/** A tick at the foot of the chart for each value that was NaN or infinite. */
function marks(plot: uPlot, steps: number[], stroke: string): void {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.fillStyle = stroke;
  for (const step of steps) ctx.fillRect(plot.valToPos(step, "x", true) - 1, bbox.top + bbox.height - 14, 3, 14);
  ctx.restore();
}

export function LossCard({ model }: { model: Model }) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [log, setLog] = useState(false);
  const dark = useDark();

  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const made = new uPlot(options(element, log, () => model.series.loss), data(model.series.loss, log), element);
    plot.current = made;
    const resized = new ResizeObserver(() => { made.setSize({ width: element.clientWidth, height: height() }); });
    resized.observe(element);
    return () => {
      resized.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [model, log, dark]);

  useEffect(() => {
    const unsubscribe = model.subscribe(() => plot.current?.setData(data(model.series.loss, log)));
    return () => {
      unsubscribe();
    };
  }, [model, log]);

  const { session } = model;
  const { loss } = model.series;
  const bad = loss.bad.length;
  return (
    <section class="card" aria-label="Loss">
      <h2>
        Loss <small>training, every backward call</small>
        <span class="grow" />
        <span class="figures">{format.loss(session?.loss)}</span>
        <button class="quiet" aria-pressed={log} onClick={() => { setLog(!log); }}>log</button>
      </h2>
      <div ref={place} class="plot" role="img" aria-label={summary(loss)} />
      {loss.length === 0 && <p class="empty">{session && ["starting", "running"].includes(session.state) ? "No loss yet: the script has not called backward." : "This session has no losses."}</p>}
      {bad > 0 && <p class="warn">{`${bad === 100 ? "100 or more" : bad} values are NaN or infinite, first at step ${loss.bad[0] ?? 0}.`}</p>}
    </section>
  );
}

function summary(series: Series): string {
  if (!series.length) return "No loss yet";
  const last = series.value[series.length - 1];
  return `Loss from step ${series.step[0] ?? 0} to ${series.step[series.length - 1] ?? 0}, from ${format.loss(series.value[0])} to ${format.loss(last)}`;
}

/** The system's theme; the plot's colours are fixed when it is made. */
function useDark(): boolean {
  const query = matchMedia("(prefers-color-scheme: dark)");
  const [dark, setDark] = useState(query.matches);
  useEffect(() => {
    const listener = () => { setDark(query.matches); };
    query.addEventListener("change", listener);
    return () => { query.removeEventListener("change", listener); };
  }, []);
  return dark;
}
