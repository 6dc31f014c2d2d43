// A curve of bounded size: when it holds too many points, neighbours are merged, and each keeps its lowest and highest
// value, so that a spike survives any length of run. What is not a number is counted, never dropped silently.
import type { Columns } from "./columns";

export const CAPACITY = 4096;
/** Steps with a value that is no number, as far as they are remembered. */
export const MAX_BAD = 100;

export class Series {
  step: number[] = [];
  epoch: number[] = [];
  /** Seconds since 1970. */
  time: number[] = [];
  value: number[] = [];
  low: number[] = [];
  high: number[] = [];
  /** How many values a point stands for; of a point out of the hub's buckets, how many steps. */
  weight: number[] = [];
  /** Steps at which the value was NaN or infinite (the first ones). */
  bad: number[] = [];
  /** Counts the changes. */
  version = 0;

  get length(): number {
    return this.step.length;
  }

  /** Take a message: a history replaces what there is, a delta comes after it. */
  take({ header, arrays }: Columns): void {
    if (header.reset) this.clear();
    const column = (name: string) => arrays.get(name) ?? new Float64Array();
    const [step, epoch, time, value] = [column("step"), column("epoch"), column("time"), column("value")];
    const buckets = arrays.has("low");
    const [low, high] = buckets ? [column("low"), column("high")] : [value, value];
    for (let place = 0; place < step.length; place++) {
      const at = step[place] ?? 0;
      const span = (place + 1 < step.length ? (step[place + 1] ?? at) : 2 * at - (step[place - 1] ?? at)) - at;
      this.add({
        step: at, epoch: epoch[place] ?? 0, time: time[place] ?? 0, value: value[place] ?? NaN, low: low[place] ?? NaN,
        high: high[place] ?? NaN, weight: buckets ? Math.max(2, span) : 1,
      });
    }
    while (this.length > CAPACITY) this.halve();
    this.version++;
  }

  private clear(): void {
    this.truncate(0);
    this.bad = [];
  }

  private truncate(length: number): void {
    for (const column of [this.step, this.epoch, this.time, this.value, this.low, this.high, this.weight]) column.length = length;
  }

  private add(point: Point): void {
    if (![point.value, point.low, point.high].every(Number.isFinite) && this.bad.length < MAX_BAD) this.bad.push(point.step);
    this.set(this.length, point);
  }

  private set(place: number, point: Point): void {
    this.step[place] = point.step;
    this.epoch[place] = point.epoch;
    this.time[place] = point.time;
    this.value[place] = point.value;
    this.low[place] = point.low;
    this.high[place] = point.high;
    this.weight[place] = point.weight;
  }

  /** All that is known of a point. */
  at(place: number): Point {
    const of = (column: number[]) => column[place] ?? NaN;
    return {
      step: of(this.step), epoch: of(this.epoch), time: of(this.time), value: of(this.value), low: of(this.low),
      high: of(this.high), weight: of(this.weight),
    };
  }

  private halve(): void {
    const half = Math.ceil(this.length / 2);
    for (let place = 0; place < half; place++) {
      const first = this.at(2 * place);
      this.set(place, 2 * place + 1 < this.length ? merged(first, this.at(2 * place + 1)) : first);
    }
    this.truncate(half);
  }
}

export interface Point {
  step: number;
  epoch: number;
  time: number;
  value: number;
  low: number;
  high: number;
  weight: number;
}

/** Stands where the first of the two stood. */
function merged(a: Point, b: Point): Point {
  const weight = a.weight + b.weight;
  const mean = (a.value * a.weight + b.value * b.weight) / weight;
  const value = !Number.isFinite(a.value) ? b.value : Number.isFinite(b.value) ? mean : a.value;
  return { ...a, value, low: lower(a.low, b.low), high: -lower(-a.high, -b.high), weight };
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
