// Where a point stands on the x axis: by optimizer step, by epoch (with the place within it), or by the clock.
import type { Series } from "./series";

export const AXES = ["step", "epoch", "time"] as const;
export type Axis = (typeof AXES)[number];

/** Never falling, as a chart needs it, even where the machine's clock was set back. */
export function places(series: Series, axis: Axis): number[] {
  const found = axis === "epoch" ? epochs(series) : axis === "time" ? series.time : series.step;
  let highest = -Infinity;
  return found.map((place) => (highest = Math.max(highest, place)));
}

/**
 * Epochs with fractions: a point's steps since its epoch began, by that epoch's length. The newest epoch is not over: it
 * is taken to be as long as the one before, or as what has been seen of it where that is more.
 */
function epochs({ step, epoch }: Series): number[] {
  const starts: number[] = [];
  for (let place = 0; place < step.length; place++) if (place === 0 || epoch[place] !== epoch[place - 1]) starts.push(place);
  const result: number[] = [];
  let before = 0;
  starts.forEach((start, number) => {
    const next = starts[number + 1];
    const end = next ?? step.length;
    const [first, from] = [step[start] ?? 0, epoch[start] ?? 0];
    const seen = (step[end - 1] ?? first) + 1 - first;
    // Of two epochs whose points stand far apart, those between lie on the same line.
    const passed = next === undefined ? 1 : Math.max(1, (epoch[next] ?? from) - from);
    const steps = next === undefined ? Math.max(before, seen) : (step[next] ?? first) - first;
    for (let place = start; place < end; place++) result.push(from + (steps > 0 ? (((step[place] ?? first) - first) / steps) * passed : 0));
    before = steps / passed;
  });
  return result;
}

/** The length of an epoch is not known yet: its points are spread over the whole of it. */
export function onlyOneEpoch({ epoch }: Series): boolean {
  return epoch.length > 0 && epoch[0] === epoch[epoch.length - 1];
}

/** Where the points of a curve stand that is drawn beside another: an epoch is as long for both. */
export function placesBeside(beside: Series, series: Series, axis: Axis): number[] {
  if (axis !== "epoch" || !series.length) return places(beside, axis);
  const { step } = series;
  const at = epochs(series);
  let next = 0;
  return beside.step.map((wanted) => {
    while (next < step.length && (step[next] ?? 0) < wanted) next++;
    const [before, after] = [Math.max(0, next - 1), Math.min(next, step.length - 1)];
    const [from, to] = [step[before] ?? 0, step[after] ?? 0];
    const share = to > from ? (wanted - from) / (to - from) : 0;
    return (at[before] ?? 0) + Math.min(1, Math.max(0, share)) * ((at[after] ?? 0) - (at[before] ?? 0));
  });
}
