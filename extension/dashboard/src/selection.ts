// Samples that a person chose in a list, by their index: they stay chosen while the list is renewed under them.
import type { Command } from "./commands";
import { number, type Read } from "./forms";
import type { SubsetInfo } from "./protocol";

/** Of one command; a longer list takes several. */
export const MAX_SAMPLES = 4000;

export class Selection {
  readonly chosen: ReadonlySet<number>;
  /** Where a range begins. */
  private readonly anchor: number | null;

  constructor(chosen: Iterable<number> = [], anchor: number | null = null) {
    this.chosen = new Set(chosen);
    this.anchor = anchor;
  }

  /** Choose one, or no more; with `range`, all from where the last one was to here, as the list has them. */
  toggle(sample: number, list: readonly (number | null)[], range: boolean): Selection {
    const from = this.anchor === null ? -1 : list.indexOf(this.anchor);
    const to = list.indexOf(sample);
    if (range && from >= 0 && to >= 0) {
      const between = list.slice(Math.min(from, to), Math.max(from, to) + 1).filter((each) => each !== null);
      return new Selection([...this.chosen, ...between], sample);
    }
    const without = [...this.chosen].filter((each) => each !== sample);
    return new Selection(this.chosen.has(sample) ? without : [...without, sample], sample);
  }

  /** All of the list, or none of it where all are chosen. */
  all(list: readonly (number | null)[]): Selection {
    const known = list.filter((each) => each !== null);
    const every = known.every((each) => this.chosen.has(each));
    return new Selection([...this.chosen].filter((each) => !known.includes(each)).concat(every ? [] : known));
  }
}

/** What is done to the chosen samples. Of the same kind as what holds now, it comes on top of it; `include` never does. */
export function subset(mode: "exclude" | "include", chosen: ReadonlySet<number>, now: SubsetInfo | null): Read<Command> {
  const samples = [...chosen].sort((a, b) => a - b);
  if (samples.length > MAX_SAMPLES) return { fault: `at most ${MAX_SAMPLES} samples at once` };
  const add = mode === "exclude" && now?.mode === "exclude";
  return { value: { name: "subset", args: { mode, samples, ...(add ? { add } : {}) } } };
}

/** `0`: never; `2`: twice as often. */
export function weighted(text: string, chosen: ReadonlySet<number>, now: SubsetInfo | null): Read<Command> {
  const read = number(text);
  if (read.fault !== undefined) return read;
  if (read.value < 0 || read.value > 100) return { fault: "a weight from 0 to 100" };
  if (chosen.size > MAX_SAMPLES) return { fault: `at most ${MAX_SAMPLES} samples at once` };
  const samples = [...chosen].sort((a, b) => a - b);
  return { value: { name: "subset", args: { mode: "weights", samples, weights: [read.value], ...(now?.mode === "weights" ? { add: true } : {}) } } };
}

/** What of now is lost by it; empty where nothing is. */
export function replaces(mode: SubsetInfo["mode"], now: SubsetInfo | null): string {
  if (!now || (now.mode === mode && mode !== "include")) return "";
  return `Takes the place of what holds now (${now.mode} of ${now.count})`;
}
