// A trial: what is asked for, and its two curves made small enough to draw.
import type { Command } from "./commands";
import { numbers, positive, whole, type Read } from "./forms";
import { columns, common } from "./groups";
import type { ParameterGroup, TrialInfo } from "./protocol";

export const KINDS = { set: "a number of an optimizer", norm: "clipping by norm", value: "clipping by value", freeze: "freezing", unfreeze: "unfreezing" } as const;
export type Kind = keyof typeof KINDS;

/** As typed. */
export interface Form {
  steps: string;
  kind: Kind;
  /** Of the optimizer's number. */
  name: string;
  /** The new number, the limit, or the pattern. */
  text: string;
}

export function command({ steps, kind, name, text }: Form, groups: readonly ParameterGroup[]): Read<Command> {
  const many = whole(steps, 1, "how many steps");
  if (many.fault !== undefined) return many;
  if (many.value > 100_000) return { fault: "how many steps: at most 100,000" };
  const asked = (what: "set" | "clip" | "freeze" | "unfreeze", args: Record<string, unknown>): Read<Command> => ({ value: { name: "trial", args: { steps: many.value, name: what, args } } });
  if (kind === "set") {
    const known = columns(groups).includes(name) ? common(groups, name) : null;
    if (!known) return { fault: `no parameter group has ${name || "such a number"}` };
    const read = numbers(text, known.like);
    return read.fault === undefined ? asked("set", { name, value: read.value }) : { fault: `${name}: ${read.fault}` };
  }
  if (kind === "norm" || kind === "value") {
    const read = positive(text);
    return read.fault === undefined ? asked("clip", { [kind]: read.value }) : { fault: `the ${kind}: ${read.fault}` };
  }
  return text.trim() ? asked(kind, { pattern: text.trim() }) : { fault: "a pattern of names, such as encoder.*" };
}

export interface Curves {
  without: (number | null)[];
  changed: (number | null)[];
  /** With minus without, where both are known. */
  difference: (number | null)[];
}

/** At most so many points each: means over the same steps of both. */
export function curves({ without = [], changed = [], steps }: TrialInfo, most: number): Curves {
  const size = Math.max(1, Math.ceil(steps / most));
  const pairs = without.slice(0, changed.length).map((loss, step) => (finite(loss) && finite(changed[step]) ? (changed[step] ?? 0) - loss : NaN));
  return { without: means(without, size), changed: means(changed, size), difference: means(pairs, size) };
}

function finite(value: number | null | undefined): value is number {
  return value !== null && value !== undefined && Number.isFinite(value);
}

function means(values: readonly (number | null)[], size: number): (number | null)[] {
  const found: (number | null)[] = [];
  for (let from = 0; from < values.length; from += size) {
    const part = values.slice(from, from + size).filter(finite);
    found.push(part.length ? part.reduce((sum, value) => sum + value, 0) / part.length : null);
  }
  return found;
}

/** The effect with its interval, in words; empty while it is not known. */
export function effect({ effect: mean = null, low = null, high = null }: TrialInfo, write: (value: number) => string): string {
  if (mean === null) return "";
  const signed = (value: number) => (value > 0 ? "+" : "") + write(value);
  const interval = low !== null && high !== null ? `, 95 % interval ${signed(low)} to ${signed(high)}` : "";
  return `with minus without: ${signed(mean)} on average${interval}`;
}
