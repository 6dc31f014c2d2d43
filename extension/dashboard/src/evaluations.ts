// Tests and scans of the shown session: what came of each, and how far the one is that runs.
import { NotServed, why, type Hub } from "./hub";
import type { Session } from "./protocol";

/** Of one class. */
export interface OfClass {
  class: number | string;
  count: number;
  accuracy: number | null;
  loss?: number | null;
}

/** A test or a scan, as far as it is shown. */
export interface Evaluation {
  kind: "test" | "scan";
  /** `test_1`: what its rows carry as `evaluation`. */
  label: string;
  run: string;
  step: number;
  epoch: number;
  loader: string;
  mode: string;
  checkpoint?: string;
  by: string;
  began: number;
  seconds: number;
  count: number;
  partial?: boolean;
  /** Why it is partial, or nothing at all. */
  reason?: string;
  how: string;
  verified?: boolean;
  result: Record<string, unknown>;
}

export class EvaluationStore {
  rows: Evaluation[] = [];
  loaded = false;
  fault = "";
  /** This hub keeps no tests. */
  missing = false;
  /** Labels of those that are compared; the newest where none is. */
  chosen: string[] = [];

  private session = "";

  constructor(
    private readonly hub: Hub,
    private readonly changed: () => void,
  ) {}

  follow({ id }: Session): void {
    if (id === this.session) return;
    Object.assign(this, { session: id, rows: [], loaded: false, fault: "", missing: false, chosen: [] });
  }

  async refresh(): Promise<void> {
    const { session } = this;
    try {
      const found = (await this.hub.get(`sessions/${session}/evaluations`)) as { evaluations: Evaluation[] };
      if (session !== this.session) return;
      [this.rows, this.loaded, this.fault] = [found.evaluations, true, ""];
    } catch (error) {
      this.fault = why(error, "tests");
      this.missing = error instanceof NotServed && error.unknownRoute;
    }
    this.changed();
  }

  compare(label: string): void {
    this.chosen = this.chosen.includes(label) ? this.chosen.filter((each) => each !== label) : [...this.chosen, label].slice(-2);
    this.changed();
  }

  /** The one that is looked at: chosen last, or the newest. */
  current(): Evaluation | undefined {
    const label = this.chosen[this.chosen.length - 1];
    return this.rows.find((row) => row.label === label) ?? this.rows[this.rows.length - 1];
  }
}

/** Numbers of a result that stand alone: loss, accuracy, perplexity, ... */
export function figures({ result }: Evaluation): [name: string, value: number][] {
  return Object.entries(result).flatMap(([name, value]) => (typeof value === "number" && name !== "error" ? [[name, value] as [string, number]] : []));
}

export function classes({ result }: Evaluation): OfClass[] {
  return (result["per_class"] ?? []) as OfClass[];
}

/** Rows are what is true, columns what the model says; null where it was not made. */
export function confusion({ result }: Evaluation): number[][] | null {
  return (result["confusion"] ?? null) as number[][] | null;
}

/** Of a regression: what is said of the residuals. */
export function residuals({ result }: Evaluation): [name: string, value: number][] {
  return Object.entries((result["residuals"] ?? {}) as Record<string, unknown>).flatMap(([name, value]) => (typeof value === "number" ? [[name, value] as [string, number]] : []));
}
