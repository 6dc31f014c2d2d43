// By what the worst samples are chosen, and the columns that explain the choice. An order is a row here.
import * as format from "./format";
import type { Learned } from "./samples";

export interface Column {
  name: string;
  title: string;
  text: (row: Learned) => string;
}

const COLUMNS = {
  count: { name: "seen", title: "how many times it was trained on", text: ({ count }) => format.count(count) },
  last: { name: "last loss", title: "at the newest time it was trained on", text: (row) => format.loss(row.loss_last) },
  mean: { name: "mean loss", title: "over all times it was trained on", text: (row) => format.loss(row.loss_mean) },
  variance: { name: "variance", title: "of its losses", text: (row) => format.loss(row.loss_variance) },
  learned: { name: "learned", title: "the epoch in which it was right for the first time", text: learned },
  forgetting: { name: "forgotten", title: "how many times it was right, and wrong the next time", text: ({ forgetting }) => (forgetting === null ? "–" : format.count(forgetting)) },
  confidence: { name: "confidence", title: "mean probability that the model gave its own class", text: (row) => format.loss(row.confidence) },
  variability: { name: "variability", title: "standard deviation of that probability", text: (row) => format.loss(row.variability) },
  margin: { name: "margin", title: "mean score of its own class minus the highest other one", text: (row) => format.loss(row.margin) },
} satisfies Record<string, Column>;

function learned(row: Learned): string {
  if (row.forgetting === null) return "–";
  return row.learned === null ? "never" : `epoch ${row.learned}`;
}

export interface Order {
  /** As the hub calls it; `loss` is the table of samples, all others are training dynamics. */
  name: "loss" | "loss_mean" | "loss_variance" | "forgetting" | "confidence" | "variability" | "margin";
  label: string;
  /** What such a list shows. */
  about: string;
  columns: Column[];
  /** What must be recorded for it, where that is not certain. */
  needs?: keyof typeof NEEDS;
}

export const LAST: Order = { name: "loss", label: "last loss", about: "the highest losses", columns: [] };

const { count, last, mean, variance, forgetting, confidence, variability, margin } = COLUMNS;

/** The measure that orders stands last. */
export const ORDERS: Order[] = [
  LAST,
  { name: "loss_mean", label: "mean loss", about: "hard, or labelled wrongly", columns: [count, last, mean] },
  { name: "loss_variance", label: "variance of the loss", about: "learned late, or again and again", columns: [count, mean, variance] },
  { name: "forgetting", label: "forgetting events", about: "never learned, then most often forgotten", columns: [mean, COLUMNS.learned, forgetting], needs: "margin" },
  { name: "confidence", label: "confidence", about: "the model does not believe the label", columns: [mean, variability, confidence], needs: "confidence" },
  { name: "variability", label: "variability", about: "the model cannot make up its mind", columns: [mean, confidence, variability], needs: "confidence" },
  { name: "margin", label: "area under the margin", about: "below 0: another class wins, on average", columns: [count, mean, margin], needs: "margin" },
];

const NEEDS = {
  confidence: "the probability that the model gave the class of a sample",
  margin: "by how much the score of a sample's class was above the highest other one",
};

/** Why there is no such list; empty where there is one. What is not known comes last: so one look at the first row tells. */
export function missing(order: Order, rows: readonly Learned[]): string {
  const first = rows[0];
  if (!order.needs || !first || first[order.needs] !== null) return "";
  return `Not recorded: ${NEEDS[order.needs]}. It is known for losses that choose among classes (cross entropy and its like), and not in sessions of earlier versions.`;
}
