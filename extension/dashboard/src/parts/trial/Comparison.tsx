// Both loss curves of a trial over each other, and under them what one step differs from its twin.
import * as format from "../../format";
import type { TrialInfo } from "../../protocol";
import { curves } from "../../trial";

const [WIDTH, HEIGHT, LOW] = [600, 150, 70];
const POINTS = 300;

export function Comparison({ trial }: { trial: TrialInfo }) {
  const { without, changed, difference } = curves(trial, POINTS);
  const length = Math.max(1, Math.ceil(trial.steps / Math.max(1, Math.ceil(trial.steps / POINTS))));
  const [low, high] = range([...without, ...changed]);
  const wide = Math.max(...range(difference).map(Math.abs));
  return (
    <div class="comparison">
      <p class="legend"><i class="line base" aria-hidden="true" />without <i class="line changed" aria-hidden="true" />with the change</p>
      <div class="plotted">
        <span class="ends figures"><span>{said(high)}</span><span>{said(low)}</span></span>
        <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={`Loss without and with ${trial.change}, from ${said(low)} to ${said(high)}`}>
          <path class="base" d={path(without, length, low, high, HEIGHT)} />
          <path class="changed" d={path(changed, length, low, high, HEIGHT)} />
        </svg>
        <span class="ends figures"><span>{said(wide, "+")}</span><span>0</span><span>{said(wide, "−")}</span></span>
        <svg class="difference" viewBox={`0 0 ${WIDTH} ${LOW}`} preserveAspectRatio="none" role="img" aria-label="Loss with minus without, of each step">
          <path class="zero" d={`M0 ${LOW / 2}H${WIDTH}`} />
          <path class="changed" d={path(difference, length, -wide, wide, LOW)} />
        </svg>
      </div>
      <p class="scale figures"><span>{`step ${format.count(trial.start)}`}</span><small>below: with minus without</small><span>{format.count(trial.start + trial.steps)}</span></p>
    </div>
  );
}

function range(values: readonly (number | null)[]): [number, number] {
  const known = values.filter((value) => value !== null);
  return known.length ? [Math.min(...known), Math.max(...known)] : [NaN, NaN];
}

function said(value: number, sign = ""): string {
  return Number.isFinite(value) ? sign + format.figure(value) : "";
}

/** `length`: points of a whole curve. What is not known is a gap. */
function path(values: readonly (number | null)[], length: number, low: number, high: number, height: number): string {
  const x = (place: number) => ((place / Math.max(1, length - 1)) * WIDTH).toFixed(1);
  const y = (value: number) => (high > low ? height - 3 - ((value - low) / (high - low)) * (height - 6) : height / 2).toFixed(1);
  let [drawn, joined] = ["", false];
  values.forEach((value, place) => {
    if (value !== null) drawn += `${joined ? "L" : "M"}${x(place)} ${y(value)}`;
    joined = value !== null;
  });
  return drawn;
}
