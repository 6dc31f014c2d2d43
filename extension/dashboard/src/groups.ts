// The parameter groups as a table: which numbers they have, in which order, and what they share.
import type { ParameterGroup } from "./protocol";

/** What people change most stands first; the rest as the optimizer has it. */
const FIRST = ["lr", "weight_decay", "momentum", "betas"];

export type Value = number | number[];

/** The names of all numbers that some group has. */
export function columns(groups: readonly ParameterGroup[]): string[] {
  const names = new Set(groups.flatMap(({ values }) => Object.keys(values)));
  return [...FIRST.filter((name) => names.has(name)), ...[...names].filter((name) => !FIRST.includes(name))];
}

/** Of a number in all groups that have it; null where they differ. `like`: what it looks like. */
export function common(groups: readonly ParameterGroup[], name: string): { value: Value | null; like: Value } | null {
  const found = groups.map(({ values }) => values[name]).filter((value) => value !== undefined);
  const [first] = found;
  if (first === undefined) return null;
  return { value: found.every((value) => same(value, first)) ? first : null, like: first };
}

export function same(a: Value | null, b: Value | null): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
