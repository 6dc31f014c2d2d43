// A fork and a merge as a person types them, read as commands.
import type { Command } from "./commands";
import { name, number, numbers, positive, whole, type Read } from "./forms";
import { common } from "./groups";
import type { Merge, ParameterGroup } from "./protocol";
import { MAX_SAMPLES } from "./selection";

/** As typed; empty is what nothing is said of. */
export interface ForkForm {
  name: string;
  checkpoint: string;
  select: string;
  loader: string;
  steps: string;
  epochs: string;
  minutes: string;
  /** By the optimizer's number. */
  settings: Record<string, string>;
  /** Which optimizer steps; empty: the only one. */
  optimizer: string;
  seed: string;
}

export const FORK: ForkForm = { name: "", checkpoint: "", select: "", loader: "", steps: "", epochs: "", minutes: "", settings: {}, optimizer: "", seed: "" };

type Fault = { field: string; fault: string };
export type Filled = { command: Command; fault?: undefined } | ({ command?: undefined } & Fault);

/** Which field is wrong, and what it expects; or the command. */
export function fork(form: ForkForm, groups: readonly ParameterGroup[]): Filled {
  const args: Extract<Command, { name: "fork" }>["args"] = {};
  const wrong = firstFault([
    optional("name", form.name, name, (value) => { args.name = value; }),
    optional("steps", form.steps, (text) => whole(text, 1, "steps"), (value) => { args.steps = value; }),
    optional("epochs", form.epochs, positive, (value) => { args.epochs = value; }),
    optional("minutes", form.minutes, positive, (value) => { args.minutes = value; }),
    ...Object.entries(form.settings).map(([setting, text]) => optional(setting, text, (given) => numbers(given, common(groups, setting)?.like ?? 0), (value) => { args.settings = { ...args.settings, [setting]: value }; })),
    optional("seed", form.seed, (text) => whole(text, 0, "seed"), (value) => { args.seed = value; }),
  ]);
  if (wrong) return wrong;
  const [select, loader] = [form.select.trim(), form.loader.trim()];
  const samples = listed(select);
  Object.assign(args, form.checkpoint && { checkpoint: form.checkpoint }, samples ? { samples } : select && { select }, loader && { loader }, form.optimizer && { optimizer: Number(form.optimizer) });
  return { command: { name: "fork", args } };
}

/**
 * The indices of a selection that is nothing but a list of them: these samples are meant, whether or not the run has been
 * trained on them, as words would want. Null: it is words, or longer than a message.
 */
function listed(select: string): number[] | null {
  const [, list] = /^sample=(\d+(?::\d+)?(?:,\d+(?::\d+)?)*)$/.exec(select) ?? [];
  if (!list) return null;
  const found = new Set<number>();
  for (const part of list.split(",")) {
    const [from = 0, to = from] = part.split(":").map(Number);
    if (to - from >= MAX_SAMPLES) return null;
    for (let sample = from; sample <= to; sample++) found.add(sample);
    if (found.size > MAX_SAMPLES) return null;
  }
  return [...found].sort((a, b) => a - b);
}

interface Parameter {
  name: string;
  says: string;
  example: string;
  read: (text: string) => Read<number>;
}

export interface Strategy {
  name: NonNullable<Merge["strategy"]>;
  says: string;
  parameters: Parameter[];
  /** Each run can count more or less. */
  weighted?: boolean;
  /** It takes so many, where it does not take any number. */
  exactly?: number;
  /** Something is drawn. */
  draws?: boolean;
}

const share = (what: string) => (text: string): Read<number> => {
  const read = number(text);
  return read.fault === undefined && (read.value < 0 || read.value > 1) ? { fault: `${what}: from 0 to 1` } : read;
};
const weight = (text: string): Read<number> => {
  const read = number(text);
  return read.fault === undefined && read.value < 0 ? { fault: "0 or more" } : read;
};
const SAMPLES: Parameter = { name: "samples", says: "samples that are looked at", example: "512", read: (text) => whole(text, 1, "samples") };

/** As `onthefly/merging/table.py` has them, with what is taken where nothing is said. */
export const STRATEGIES: Strategy[] = [
  { name: "uniform", says: "the mean of all", parameters: [] },
  { name: "weighted", says: "the mean, each by its share", parameters: [], weighted: true },
  { name: "greedy", says: "the mean of those with which it does not get worse", parameters: [] },
  { name: "fisher", says: "each number by how much the data pin it down", parameters: [SAMPLES], weighted: true, draws: true },
  { name: "regmean", says: "linear layers that come closest to all outputs", parameters: [{ name: "alpha", says: "how much inputs that go together count", example: "0.9", read: share("alpha") }, SAMPLES], draws: true },
  { name: "ties", says: "the largest changes, of the sign that prevails", parameters: [{ name: "density", says: "share of the changes that is kept", example: "0.2", read: share("density") }, { name: "scale", says: "of what is added to where all began", example: "1", read: number }] },
  { name: "dare", says: "a random part of the changes, scaled up", parameters: [{ name: "drop", says: "share of the changes that is dropped", example: "0.9", read: share("drop") }], weighted: true, draws: true },
  { name: "slerp", says: "along the arc between two", parameters: [{ name: "t", says: "0 is the first, 1 the second", example: "0.5", read: share("t") }], exactly: 2 },
  { name: "adapters", says: "the mean of adapters on one model", parameters: [], weighted: true },
  { name: "distill", says: "a student of all of them, for some steps", parameters: [{ name: "steps", says: "how long", example: "100", read: (text) => whole(text, 1, "steps") }, { name: "lr", says: "learning rate of the student", example: "1e-3", read: positive }, { name: "temperature", says: "how much the teachers' lesser classes count", example: "2", read: positive }], draws: true },
];

export const OPTIMIZERS: Record<NonNullable<Merge["optimizer"]>, string> = { reset: "begins anew", keep: "is that of the current run", mean: "is the mean of the parents'" };

export interface MergeForm {
  strategy: string;
  name: string;
  loader: string;
  /** By run. */
  weights: Record<string, string>;
  /** By the strategy's parameter. */
  parameters: Record<string, string>;
  optimizer: NonNullable<Merge["optimizer"]>;
  seed: string;
  force: boolean;
}

export const MERGE: MergeForm = { strategy: "uniform", name: "", loader: "", weights: {}, parameters: {}, optimizer: "reset", seed: "", force: false };

export function merge(form: MergeForm, runs: readonly string[]): Filled {
  const strategy = STRATEGIES.find((each) => each.name === form.strategy);
  if (!strategy) return { field: "strategy", fault: "choose one" };
  if (strategy.exactly && runs.length !== strategy.exactly) return { field: "strategy", fault: `${strategy.name} takes ${strategy.exactly} runs, not ${runs.length}` };
  const args: Merge = { strategy: strategy.name, runs: [...runs] };
  const weights = strategy.weighted ? runs.map((run) => form.weights[run]?.trim() ?? "") : [];
  const given = weights.some(Boolean) || strategy.name === "weighted";
  const shares: number[] = [];
  const wrong = firstFault([
    optional("name", form.name, name, (value) => { args.name = value; }),
    ...(given ? weights.map((text, place) => required(`weight of ${runs[place] ?? ""}`, text, weight, (value) => { shares.push(value); })) : []),
    ...strategy.parameters.map((each) => optional(each.name, form.parameters[each.name] ?? "", each.read, (value) => { args.parameters = { ...args.parameters, [each.name]: value }; })),
    ...(strategy.draws ? [optional("seed", form.seed, (text) => whole(text, 0, "seed"), (value) => { args.seed = value; })] : []),
  ]);
  if (wrong) return wrong;
  if (shares.length && !shares.some(Boolean)) return { field: `weight of ${runs[0] ?? ""}`, fault: "not all 0" };
  const loader = form.loader.trim();
  Object.assign(args, shares.length && { weights: shares }, loader && { loader }, form.optimizer !== "reset" && { optimizer: form.optimizer }, form.force && { force: true });
  return { command: { name: "merge", args } };
}

function firstFault(read: readonly (Fault | null)[]): ({ command?: undefined } & Fault) | null {
  return read.find((each) => each !== null) ?? null;
}

function optional<T>(field: string, text: string, read: (text: string) => Read<T>, take: (value: T) => void): Fault | null {
  return text.trim() ? required(field, text, read, take) : null;
}

function required<T>(field: string, text: string, read: (text: string) => Read<T>, take: (value: T) => void): Fault | null {
  const found = read(text);
  if (found.fault !== undefined) return { field, fault: found.fault };
  take(found.value);
  return null;
}
