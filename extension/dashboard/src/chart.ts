// A curve as uPlot wants it: the band from lowest to highest, the raw values, a centred smoothing over them; and beside it
// another of few points, each a dot, joined by a line.
import type uPlot from "uplot";
import { places, placesBeside, type Axis } from "./axis";
import * as format from "./format";
import { smooth, type Series } from "./series";

// uPlot's constant enum, whose names exist for the compiler only.
const LINEAR: number = 1;
const LOGARITHMIC: number = 3;
/** A smoothing reaches over this share of the curve. */
const SMOOTHED = 1 / 30;

/** Of a character on an axis, in CSS pixels. */
const WIDE = 7;
/** Of a dot on the curve beside, with some air (CSS pixels). */
const DOT_ROOM = 9;

export interface Range {
  min: number;
  max: number;
}

/** A place on the x axis at which one of the curves has a point: its number there. */
export interface Row {
  at: number;
  own?: number;
  beside?: number;
}

/** The points of both curves in the order of the x axis. */
export function rows(series: Series, beside: Series | null, axis: Axis): Row[] {
  const found: Row[] = places(series, axis).map((at, own) => ({ at, own }));
  if (!beside?.length) return found;
  const others = placesBeside(beside, series, axis).map((at, number) => ({ at, beside: number }));
  return [...found, ...others].sort((a, b) => a.at - b.at); // stable: of equal places, the curve's own comes first
}

/**
 * What a logarithmic axis cannot show is left out: `hidden` counts it. The smoothing reaches by what is in the range. Where
 * only the other curve has a point stands `undefined`: for uPlot no gap, as `null` is.
 */
export function data(series: Series, axis: Axis, log: boolean, range: Range | null, beside: Series | null = null): uPlot.AlignedData {
  const merged = rows(series, beside, axis);
  const shown = (value: number) => (Number.isFinite(value) && (!log || value > 0) ? value : null);
  const column = (values: readonly number[]) => merged.map(({ own }) => (own === undefined ? undefined : shown(values[own] ?? NaN)));
  const reach = Math.max(1, Math.round((merged.filter(({ at, own }) => own !== undefined && within(range)(at)).length * SMOOTHED) / 2));
  const curves = [series.low, series.high, series.value, smooth(series.value, reach)].map(column);
  const other = merged.map((row) => (row.beside === undefined ? undefined : shown(beside?.value[row.beside] ?? NaN)));
  return [merged.map(({ at }) => at), ...curves, ...(beside ? [other] : [])];
}

const within = (range: Range | null) => (place: number) => !range || (place >= range.min && place <= range.max);

/** Points that hold values at or below zero. */
export function hidden(series: Series): number {
  return series.low.filter((value) => value <= 0).length;
}

/** Steps that one point stands for in a part of the x axis, about; null where each point is a value as it came. */
export function grain(series: Series, axis: Axis, range: Range | null): number | null {
  const inside = places(series, axis).map(within(range));
  const [first, last] = [inside.indexOf(true), inside.lastIndexOf(true)];
  if (!series.weight.slice(first, last + 1).some((weight) => weight > 1)) return null;
  return first === last ? series.at(first).weight : (series.at(last).step - series.at(first).step) / (last - first);
}

/** Dots where there is room for them. */
const dots = (plot: uPlot, number: number, first: number, last: number) =>
  (plot.data[number] ?? []).slice(first, last + 1).filter((value) => typeof value === "number").length * DOT_ROOM < plot.width;

export function options(element: HTMLElement, height: number, axis: Axis, log: boolean, unit: string, beside = false): uPlot.Options {
  const style = getComputedStyle(element);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  const line: uPlot.Axis = {
    stroke: colour("--muted"),
    grid: { stroke: colour("--grid"), width: 1 },
    ticks: { show: false },
    gap: 8,
    font: `12px ${style.fontFamily}`,
  };
  const curve = (name: string, width: number) => ({ stroke: colour(name), width, points: { show: false } });
  const other = { stroke: colour("--beside"), width: 1.5, points: { show: dots, size: 7, width: 1.5, stroke: colour("--beside"), fill: colour("--card") } };
  return {
    width: element.clientWidth,
    height,
    legend: { show: false },
    cursor: { y: false, drag: { x: true, y: false, setScale: false }, points: { size: 7, width: 2 } },
    // eslint-disable-next-line @typescript-eslint/no-unsafe-enum-assignment -- see LINEAR
    scales: { x: { time: false }, y: log ? { distr: LOGARITHMIC, range: (_, low, high) => around(low, high) } : { distr: LINEAR } },
    axes: [
      { ...line, grid: { show: false }, size: 30, space: 70, values: (_, ticks, __, ___, step) => ticks.map((tick) => (axis === "time" ? time(tick, step) : format.tick(tick))) },
      { ...line, grid: { stroke: colour("--grid"), width: 1, filter: (_, ticks) => (log ? decades(ticks) : ticks) }, size: (_, labels: string[] | null) => 14 + WIDE * Math.max(3, ...(labels ?? []).map(({ length }) => length)), values: (_, ticks: (number | null)[]) => ticks.map((tick) => (tick === null ? "" : format.tick(tick) + unit)) },
    ],
    bands: [{ series: [2, 1], fill: colour("--accent-faint") }],
    series: [{}, curve("--accent-band", 1), curve("--accent-band", 1), curve("--accent-soft", 1), curve("--accent", 2), ...(beside ? [other] : [])],
  };
}

/** The range of a logarithmic axis, with some air; uPlot's own reaches to the next power of ten. */
function around(low: number | null, high: number | null): [number, number] {
  return low === null || high === null ? [0.1, 1] : [low / 1.2, high * 1.2];
}

/** Lines at powers of ten only, where there are two of them. */
function decades(ticks: (number | null)[]): (number | null)[] {
  const kept = ticks.map((tick) => (tick !== null && Math.abs(Math.log10(tick) % 1) < 1e-9 ? tick : null));
  return kept.filter((tick) => tick !== null).length > 1 ? kept : ticks;
}

/** Of a tick on the time axis, as fine as the ticks are apart. */
function time(seconds: number, step: number): string {
  if (step >= 86_400) return new Date(seconds * 1000).toLocaleDateString("en-GB", { day: "numeric", month: "short" });
  return format.clock(seconds).slice(0, step >= 60 ? 5 : 8);
}

/** A tick at the foot of the chart for each value that was NaN or infinite; `at`: where the points stand. */
export function marks(plot: uPlot, series: Series, at: readonly number[]): void {
  if (!series.bad.length) return;
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.fillStyle = getComputedStyle(plot.root).getPropertyValue("--warning").trim();
  let place = 0;
  for (const step of series.bad) {
    while (place + 1 < series.length && (series.step[place + 1] ?? 0) <= step) place++;
    const x = plot.valToPos(at[place] ?? 0, "x", true);
    if (x >= bbox.left && x <= bbox.left + bbox.width) ctx.fillRect(x - 1, bbox.top + bbox.height - 14, 3, 14);
  }
  ctx.restore();
}
