// Samples that a selection means: the one language of page, command line and HTTP, asked of the hub.
import { exportSelection } from "./exports";
import { fault, why, type Hub } from "./hub";
import type { History, Selected, SelectionRequest, Session } from "./protocol";
import type { Named } from "./samples";

/** A row of a selection, as far as it is shown. */
export interface Meant extends Named {
  loader: string | null;
  loss: number | string | null;
  epoch: number;
  step: number;
  identity: string;
  certificate: string;
  confidence: number | null;
  margin: number | null;
  target: number | null;
  predicted: number | null;
  tags: string | null;
}

export type Request = Pick<SelectionRequest, "select" | "phase" | "evaluation" | "epoch" | "clusters">;

/** Terms that a click gives. */
export const PRESETS: [label: string, select: string, title: string][] = [
  ["worst 100", "worst=100", "The highest losses"],
  ["hard", "region=hard worst=500", "Low confidence that varies little: hard to learn, or labelled wrongly"],
  ["ambiguous", "region=ambiguous worst=500", "The third whose confidence varies most"],
  ["easy", "region=easy worst=500", "High confidence that varies little"],
  ["suspected labels", "region=suspect", "Another class wins on average, by far more than usual"],
];

export const START: Request = { select: "worst=100", phase: "train" };
const SHOWN = 500;
const REFRESH_MS = 3000;

export class ExploreStore {
  asked: Request = START;
  answer: Selected | null = null;
  fault = "";
  busy = false;
  /** What came of the last export. */
  said = "";
  /** The place in the rows that is looked at. */
  at = 0;
  history: History | null = null;

  private session: Session | null = null;
  private drawn = "";
  private watchers = 0;
  private timer: ReturnType<typeof setInterval> | undefined;

  constructor(
    private readonly hub: Hub,
    private readonly changed: () => void,
  ) {}

  get rows(): Meant[] {
    return (this.answer?.rows ?? []) as unknown as Meant[];
  }

  follow(session: Session): void {
    if (session.id !== this.session?.id || session.run !== this.session.run) {
      Object.assign(this, { asked: START, answer: null, fault: "", said: "", at: 0, history: null, drawn: "" });
    }
    this.session = session;
  }

  /** Ask until the returned function is called. */
  watch(): () => void {
    if (this.watchers++ === 0) {
      void this.refresh();
      this.timer = setInterval(() => void this.refresh(), REFRESH_MS);
    }
    return () => {
      if (--this.watchers === 0) clearInterval(this.timer);
    };
  }

  /** Mean other samples from now on. */
  select(request: Request): void {
    Object.assign(this, { asked: request, at: 0, history: null, drawn: "", said: "", fault: "", answer: null });
    this.changed();
    void this.refresh();
  }

  /** Look again, as after a change of tags. */
  again(): void {
    this.drawn = "";
    void this.refresh();
  }

  async refresh(): Promise<void> {
    const { session, asked } = this;
    const wanted = session ? JSON.stringify([session.id, session.run, asked, session.samples]) : "";
    if (!session || this.busy || document.hidden || wanted === this.drawn) return;
    this.busy = true;
    try {
      const found = (await this.hub.ask("POST", `sessions/${session.id}/selection`, { ...asked, run: session.run, limit: SHOWN })) as Selected;
      if (this.asked === asked && this.session?.id === session.id) {
        [this.answer, this.fault, this.drawn] = [found, "", wanted];
        void this.recall();
      }
    } catch (error) {
      if (this.asked === asked) [this.fault, this.answer, this.drawn] = [why(error, "selections"), null, wanted];
    } finally {
      this.busy = false;
      this.changed();
    }
    if (this.asked !== asked) await this.refresh();
  }

  look(at: number): void {
    this.at = Math.max(0, Math.min(this.rows.length - 1, at));
    this.history = null;
    this.changed();
    void this.recall();
  }

  /** All that are meant, into a file. */
  async export(what: "indices" | "rows", format: NonNullable<SelectionRequest["format"]>): Promise<void> {
    const { session } = this;
    if (!session) return;
    try {
      await exportSelection(this.hub, session.id, { ...this.asked, run: session.run, what, format }, `${session.id}-${what}`);
      this.said = "";
    } catch (error) {
      this.said = fault(error);
    }
    this.changed();
  }

  private async recall(): Promise<void> {
    const row = this.rows[this.at];
    if (!this.session || !row || (row.sample === null && row.key === null)) return;
    const named = row.sample === null ? `key=${encodeURIComponent(row.key ?? "")}` : `sample=${row.sample}`;
    const phase = this.answer?.phase === "valid" ? "valid" : "train";
    try {
      const found = (await this.hub.get(`sessions/${this.session.id}/history?run=${this.session.run}&phase=${phase}&${named}`)) as History;
      if (this.rows[this.at] === row) this.history = found;
    } catch (error) {
      this.fault = fault(error);
    }
    this.changed();
  }
}
