// A curve of bounded size: when it holds too many points, neighbours are merged, and each keeps its lowest and highest
// value, so that a spike survives any length of run. What is not a number is counted, never dropped silently.
import type { Columns } from "./columns";

export const CAPACITY = 4096;

export class Series {
  step: number[] = [];
  value: number[] = [];
  low: number[] = [];
  high: number[] = [];
  /** How many values a point stands for. */
  weight: number[] = [];
  /** Steps at which the value was NaN or infinite (the first ones). */
  bad: number[] = [];

  get length(): number {
    return this.step.length;
  }

  /** Take a message: a history replaces what there is, a delta comes after it. */
  take({ header, arrays }: Columns): void {
    if (header.reset) this.clear();
    const step = arrays.get("step") ?? new Float64Array();
    const value = arrays.get("value") ?? step;
    const low = arrays.get("low") ?? value;
    const high = arrays.get("high") ?? value;
    for (let place = 0; place < step.length; place++) {
      this.add(step[place] ?? 0, value[place] ?? NaN, low[place] ?? NaN, high[place] ?? NaN);
    }
    while (this.length > CAPACITY) this.halve();
  }

  private clear(): void {
    this.step = [];
    this.value = [];
    this.low = [];
    this.high = [];
    this.weight = [];
    this.bad = [];
  }

  private add(step: number, value: number, low: number, high: number): void {
    if (![value, low, high].every(Number.isFinite) && this.bad.length < 100) this.bad.push(step);
    this.step.push(step);
    this.value.push(value);
    this.low.push(low);
    this.high.push(high);
    this.weight.push(1);
  }

  private halve(): void {
    const old = { step: this.step, value: this.value, low: this.low, high: this.high, weight: this.weight };
    const bad = this.bad;
    this.clear();
    this.bad = bad;
    for (let place = 0; place < old.step.length; place += 2) {
      const next = Math.min(place + 1, old.step.length - 1);
      const [a, b] = [old.value[place] ?? NaN, old.value[next] ?? NaN];
      const [v, w] = [old.weight[place] ?? 1, next === place ? 0 : (old.weight[next] ?? 1)];
      this.step.push(old.step[place] ?? 0);
      this.value.push(!Number.isFinite(a) ? b : !Number.isFinite(b) ? a : (a * v + b * w) / (v + w));
      this.low.push(lower(old.low[place] ?? NaN, old.low[next] ?? NaN));
      this.high.push(-lower(-(old.high[place] ?? NaN), -(old.high[next] ?? NaN)));
      this.weight.push(v + w);
    }
  }
}

function lower(a: number, b: number): number {
  if (Number.isNaN(a)) return b;
  return Number.isNaN(b) ? a : Math.min(a, b);
}

/** A centred mean over `2 * reach + 1` points (fewer at the ends): no lag, and NaN is left out. */
export function smooth(values: readonly number[], reach: number): number[] {
  const sums = [0];
  const counts = [0];
  for (const value of values) {
    const finite = Number.isFinite(value);
    sums.push((sums[sums.length - 1] ?? 0) + (finite ? value : 0));
    counts.push((counts[counts.length - 1] ?? 0) + (finite ? 1 : 0));
  }
  return values.map((_, place) => {
    const half = Math.min(reach, place, values.length - 1 - place);
    const [from, to] = [place - half, place + half + 1];
    return ((sums[to] ?? 0) - (sums[from] ?? 0)) / ((counts[to] ?? 0) - (counts[from] ?? 0));
  });
}
