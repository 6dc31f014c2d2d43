// A change in words, as the journal keeps it and as an answer tells it: what, from what, to what.
import { typed } from "./forms";
import * as format from "./format";
import type { JournalEntry } from "./protocol";

export type Change = Pick<JournalEntry, "name" | "args" | "before" | "after">;

/** Groups that are named; more are counted. */
const NAMED = 3;

export function words(change: Change): string {
  switch (change.name) {
    case "set":
      return set(change);
    case "clip":
      return `clipping ${text(change.before["clip"]) || "off"} → ${text(change.after["clip"]) || "off"}`;
    case "freeze":
    case "unfreeze":
      return `${change.name} ${text(change.args["pattern"]) || "*"}: ${text(change.before["frozen"])} → ${text(change.after["frozen"])} numbers frozen`;
    case "subset":
      return subset(change);
    default:
      return [change.name, given(change.args), moved(change)].filter(Boolean).join(" ");
  }
}

/** `lr 0.1 → 0.01`, and of which group where not all went the same way. */
function set({ args, before, after }: Change): string {
  const name = text(args["name"]);
  const ways = Object.keys(after).map((label) => ({ label, way: `${text(before[label])} → ${text(after[label])}` }));
  const [first] = ways;
  if (!first) return `${name} ${text(args["value"])}`;
  if (ways.every(({ way }) => way === first.way)) return `${name} ${first.way}${ways.length === 1 && first.label !== "0/0" ? ` (${group(first.label)})` : ""}`;
  const named = ways.slice(0, NAMED).map(({ label, way }) => `${way} (${group(label)})`);
  const more = ways.length > NAMED ? ` and ${ways.length - NAMED} more` : "";
  return `${name} ${named.join(", ")}${more}`;
}

/** `1/0` is the first group of the second optimizer. */
function group(label: string): string {
  const [optimizer = "0", number = "0"] = label.split("/");
  return optimizer === "0" ? `group ${number}` : `optimizer ${optimizer}, group ${number}`;
}

const MODES: Partial<Record<string, string>> = { exclude: "leave out", include: "train only on", weights: "weigh" };

function subset({ args }: Change): string {
  const mode = text(args["mode"]);
  const verb = MODES[mode];
  if (!verb) return "draw all samples again";
  const count = Array.isArray(args["samples"]) ? args["samples"].length : 0;
  return `${verb} ${format.counted(count, args["add"] === true ? "more sample" : "sample")}`;
}

function given(args: Record<string, unknown>): string {
  return Object.entries(args).map(([key, value]) => `${key} ${text(value)}`).join(", ");
}

function moved({ before, after }: Change): string {
  const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  const said = keys.map((key) => `${key} ${text(before[key]) || "–"} → ${text(after[key]) || "–"}`);
  return said.length ? `(${said.join(", ")})` : "";
}

/** Any value of a message, shortly. */
export function text(value: unknown): string {
  if (value === undefined || value === null) return "";
  if (typeof value === "number") return Number.isInteger(value) ? format.count(value) : typed(value);
  if (Array.isArray(value)) return value.every((entry) => typeof entry === "number") ? typed(value) : value.map(text).join(", ");
  return typeof value === "string" ? value : JSON.stringify(value);
}
