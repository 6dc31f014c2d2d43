// What the page knows of metrics by their name: how they are called, and in what they are measured.
export interface Kind {
  label: string;
  /** With its leading space where one belongs. */
  unit: string;
  about: string;
  /** It is set, not measured: a mean of its newest values would be none that it had. */
  set?: boolean;
}

const KINDS: Partial<Record<string, Kind>> = Object.assign(Object.create(null) as Record<string, Kind>, {
  loss: { label: "loss", unit: "", about: "training, every backward call" },
  lr: { label: "learning rate", unit: "", about: "every optimizer step", set: true },
  throughput: { label: "samples / s", unit: "", about: "every optimizer step" },
  step_ms: { label: "step", unit: " ms", about: "from one optimizer step to the next" },
  data_ms: { label: "waiting for data", unit: " ms", about: "in each optimizer step" },
  onthefly_us: { label: "cost of watching", unit: " µs", about: "time inside our hooks, in each optimizer step" },
  "valid/loss": { label: "validation loss", unit: "", about: "each pass over the validation data" },
  "valid/accuracy": { label: "validation accuracy", unit: "", about: "each pass over the validation data" },
  accuracy: { label: "accuracy", unit: "", about: "" },
  grad_norm: { label: "gradient norm", unit: "", about: "" },
  weight_norm: { label: "weight norm", unit: "", about: "" },
  activation_zeros: { label: "zero activations", unit: "", about: "" },
  cpu: { label: "processor", unit: " %", about: "of one core, by the script" },
  rss: { label: "memory", unit: " MB", about: "resident, of the script" },
  gpu_util: { label: "GPU", unit: " %", about: "in use" },
  gpu_mem: { label: "GPU memory", unit: " MB", about: "in use" },
});

/** Of any metric: one of the script's own is called as the script calls it, `lr/1` is the second group's. */
export function kind(name: string): Kind {
  const known = KINDS[name];
  if (known) return known;
  const [base, group] = name.split("/", 2);
  const family = base && group && /^\d+$/.test(group) ? KINDS[base] : undefined;
  const made = family ? { ...family, label: `${family.label}, group ${group ?? ""}` } : { label: name, unit: "", about: "" };
  return (KINDS[name] = made); // the same object for the same name
}

/** With a small figure beside the main chart, where they have values. */
export const TILES = ["lr", "accuracy", "valid/accuracy", "throughput", "step_ms", "data_ms"] as const;

/** What stands beside a metric on the main chart, where it has values: the same of the script's own validation. */
export const BESIDE: ReadonlyMap<string, string> = new Map([["loss", "valid/loss"], ["accuracy", "valid/accuracy"]]);
