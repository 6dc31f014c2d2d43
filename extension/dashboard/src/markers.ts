// Where something happened on a curve: what was changed, what a watchdog found, the step that a person points at. Placed
// once for each state of the curve, by bisection: a curve of any length costs the same.
import type uPlot from "uplot";
import { places, type Axis } from "./axis";
import { words } from "./changes";
import * as format from "./format";
import type { Finding, JournalEntry } from "./protocol";
import type { Series } from "./series";

export interface Marker {
  step: number;
  /** Seconds since 1970; none of a step that is pointed at. */
  time: number | null;
  kind: "change" | "finding" | "pointed";
  text: string;
}

/** A marker on the x axis. */
export interface Placed {
  at: number;
  marker: Marker;
}

/** Of a marker, in CSS pixels: so near to it, its words are shown. */
const REACH = 6;
const WORDS = 3;

export function markers(entries: readonly JournalEntry[], findings: readonly Finding[], pointed: number | null): Marker[] {
  const changes = entries.map((entry): Marker => ({ step: entry.step, time: entry.time, kind: "change", text: words(entry) + (entry.by ? `, by ${entry.by}` : "") }));
  const found = findings.map(({ step, time, alarm, text }): Marker => ({ step, time, kind: "finding", text: `${alarm}: ${text}` }));
  const here: Marker[] = pointed === null ? [] : [{ step: pointed, time: null, kind: "pointed", text: "" }];
  return [...changes, ...found, ...here];
}

/** In the order of the x axis. */
export function placed(found: readonly Marker[], series: Series, axis: Axis): Placed[] {
  if (!found.length || !series.length) return [];
  const [steps, at] = [places(series, "step"), axis === "step" ? [] : places(series, axis)];
  const where = ({ step, time }: Marker) => {
    if (axis === "step") return step;
    return axis === "time" && time !== null ? time : between(step, steps, at);
  };
  return found.map((marker) => ({ at: where(marker), marker })).sort((a, b) => a.at - b.at);
}

/** The place of a step between the points around it. */
function between(step: number, steps: readonly number[], at: readonly number[]): number {
  let [low, high] = [0, steps.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((steps[middle] ?? 0) < step) low = middle + 1;
    else high = middle;
  }
  const before = Math.max(0, low - 1);
  const [from, to] = [steps[before] ?? 0, steps[low] ?? 0];
  const share = to > from ? Math.min(1, Math.max(0, (step - from) / (to - from))) : 1;
  return (at[before] ?? 0) + share * ((at[low] ?? 0) - (at[before] ?? 0));
}

/** A tick at the top of the chart for each, at most one a pixel; a line for the one that is pointed at. */
export function drawMarkers(plot: uPlot, found: readonly Placed[]): void {
  if (!found.length) return;
  const { ctx, bbox } = plot;
  const style = getComputedStyle(plot.root);
  const colours = { change: "--accent", finding: "--warning", pointed: "--text" } as const;
  const ratio = devicePixelRatio;
  ctx.save();
  const drawn = { change: -Infinity, finding: -Infinity, pointed: -Infinity };
  for (const { at, marker: { kind } } of found) {
    const x = Math.round(plot.valToPos(at, "x", true));
    if (x < bbox.left || x > bbox.left + bbox.width || x === drawn[kind]) continue;
    drawn[kind] = x;
    ctx.fillStyle = ctx.strokeStyle = style.getPropertyValue(colours[kind]).trim();
    ctx.lineWidth = ratio;
    ctx.globalAlpha = kind === "pointed" ? 0.9 : 0.35;
    ctx.setLineDash([3 * ratio, 3 * ratio]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    if (kind === "pointed") continue;
    ctx.globalAlpha = 1;
    ctx.beginPath();
    ctx.moveTo(x - 4 * ratio, bbox.top);
    ctx.lineTo(x + 4 * ratio, bbox.top);
    ctx.lineTo(x, bbox.top + 7 * ratio);
    ctx.fill();
  }
  ctx.restore();
}

/** What the markers under the pointer say; empty where there is none. */
export function under(found: readonly Placed[], left: number, pixel: (at: number) => number): string {
  const near = found.filter(({ at, marker }) => marker.text && Math.abs(pixel(at) - left) <= REACH);
  if (!near.length) return "";
  const said = near.slice(0, WORDS).map(({ marker: { step, text } }) => `step ${format.count(step)}: ${text}`);
  return said.join(" · ") + (near.length > WORDS ? ` · and ${near.length - WORDS} more` : "");
}
