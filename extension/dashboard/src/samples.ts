// Single samples: how their losses are spread, and the worst of them in the order that a person chose. Asked for while the
// page is seen, at most once a second, and only when there are new records.
import { NotServed, why, type Hub } from "./hub";
import { LAST, type Order } from "./orders";
import type { Histogram, Session } from "./protocol";

export type Phase = Histogram["phase"];

/** What names a sample: its index in the data set, its place in a stream, or a key that it carries. */
export interface Named {
  sample: number | null;
  key: string | null;
}

/** A row of the table `samples`, as far as it is shown. */
export interface Recorded extends Named {
  loss: number | string;
  step: number;
  position: number;
  backward: number;
  /** Values (tokens, pixels) that the loss is the mean of. */
  valid: number;
  certificate: string;
  identity: string;
  /** Where the loss has several terms. */
  [component: `loss.${string}`]: number | string | null;
}

/** A row of the training dynamics, as far as it is shown; null is what is not known. */
export interface Learned extends Named {
  count: number;
  epochs: number;
  loss_mean: number | null;
  loss_variance: number | null;
  loss_last: number | string;
  loss_min: number | null;
  loss_max: number | null;
  forgetting: number | null;
  learned: number | null;
  confidence: number | null;
  variability: number | null;
  margin: number | null;
}

export const WORST = 20;

export class SampleStore {
  histogram: Histogram | null = null;
  phase: Phase = "train";
  order: Order = LAST;
  /** In the order `last loss`. */
  recorded: Recorded[] = [];
  /** In all others. */
  learned: Learned[] = [];
  /** The list is of what is chosen now. */
  loaded = false;
  fault = "";

  private session: Session | null = null;
  private asking = false;
  /** The choice and the number of records of what is shown. */
  private drawn = "";

  constructor(
    private readonly hub: Hub,
    private readonly changed: () => void,
  ) {}

  /** Show this session's samples, as it is now. */
  follow(session: Session): void {
    if (session.id !== this.session?.id || session.run !== this.session.run) {
      this.histogram = null;
      this.phase = "train";
      this.clear();
    }
    this.session = session;
  }

  /** Show the worst in another order. */
  choose(order: Order): void {
    this.order = order;
    this.clear();
    this.changed();
    void this.refresh();
  }

  /** Show another phase. */
  look(phase: Phase): void {
    this.phase = phase;
    this.clear();
    this.changed();
    void this.refresh();
  }

  /** Ask if there are new records, or another choice. */
  async refresh(): Promise<void> {
    const session = this.session;
    if (!session || this.asking || document.hidden) return;
    const choice = this.choice();
    const wanted = `${choice} ${session.backwards}`;
    if (wanted === this.drawn) return;
    this.asking = true;
    try {
      await this.ask(session, choice);
      if (this.choice() === choice) this.drawn = wanted;
    } catch (error) {
      // The next round asks again; a hub that is gone shows as a lost connection.
      this.fault = why(error, "such list");
      if (error instanceof NotServed && error.unknownRoute) this.drawn = wanted;
    } finally {
      this.asking = false;
      this.changed();
    }
    if (this.choice() !== choice) await this.refresh();
  }

  private async ask(session: Session, choice: string): Promise<void> {
    const { phase, order } = this;
    const base = `sessions/${session.id}`;
    const histogram = (await this.hub.get(`${base}/histogram?run=${session.run}&phase=${phase}`)) as Histogram;
    if (this.choice() !== choice) return;
    this.histogram = histogram;
    this.changed(); // the list may take longer
    const part = `run=${session.run}&phase=${phase}&limit=${WORST}`;
    const path = order === LAST ? `samples?order=worst&epoch=${histogram.epoch}&${part}` : `dynamics?order=${order.name}&${part}`;
    const rows = await this.hub.get(`${base}/${path}`);
    if (this.choice() !== choice) return;
    if (order === LAST) this.recorded = rows as Recorded[];
    else this.learned = rows as Learned[];
    this.loaded = true;
    this.fault = "";
  }

  private choice(): string {
    return [this.session?.id, this.session?.run, this.phase, this.order.name].join(" ");
  }

  private clear(): void {
    this.recorded = [];
    this.learned = [];
    this.loaded = false;
    this.drawn = "";
    this.fault = "";
  }
}

/** The terms of a sample's loss by name; none where it has one only. */
export function parts(row: Recorded): [name: string, value: number | string][] {
  const found: [string, number | string][] = [];
  for (const [column, value] of Object.entries(row)) {
    if (column.startsWith("loss.") && value !== null) found.push([column.slice(5), value as number | string]);
  }
  return found;
}
