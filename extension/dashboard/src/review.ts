// Suspected label errors, and what a person says of each: asked for while the review is open and records come.
import { fault, why, type Hub } from "./hub";
import type { History, Session } from "./protocol";
import type { Named } from "./samples";
import type { TagStore, Verdict } from "./tagging";

export interface Suspect extends Named {
  place: number;
  loader: string;
  is_label_issue: boolean;
  /** Mean probability that the model gave the label. */
  label_quality: number | null;
  given_label: number | null;
  predicted_label: number | null;
  verdict: Verdict | null;
  margin: number | null;
  variability: number | null;
  forgetting: number | null;
  learned: number | null;
  count: number;
  loss_mean: number | null;
  loss_last: number | string;
  evidence: string;
}

/** The head of the list: whoever has reviewed all of these asks for more. */
export const LISTED = 300;
const REFRESH_MS = 3000;

export const nameOf = ({ sample, key }: Named) => (sample === null ? (key ?? "") : String(sample));

export class ReviewStore {
  rows: Suspect[] = [];
  loaded = false;
  fault = "";
  /** The losses of the one that is looked at. */
  history: History | null = null;
  /** What is looked at, by name: the list may be ranked anew under it. */
  at = "";

  private session: Session | null = null;
  private drawn = "";
  private asking = false;
  private limit = LISTED;
  private watchers = 0;
  private timer: ReturnType<typeof setInterval> | undefined;

  constructor(
    private readonly hub: Hub,
    private readonly tags: TagStore,
    private readonly changed: () => void,
  ) {}

  follow(session: Session): void {
    if (session.id !== this.session?.id || session.run !== this.session.run) {
      Object.assign(this, { rows: [], loaded: false, fault: "", history: null, at: "", drawn: "", limit: LISTED });
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

  /** Ask if there are new records. */
  async refresh(): Promise<void> {
    const { session, limit } = this;
    const wanted = session ? `${session.id} ${session.run} ${session.samples} ${limit}` : "";
    if (!session || this.asking || document.hidden || wanted === this.drawn) return;
    this.asking = true;
    try {
      const rows = (await this.hub.get(`sessions/${session.id}/suspects?run=${session.run}&limit=${limit}`)) as Suspect[];
      if (this.session?.id !== session.id) return;
      [this.rows, this.loaded, this.fault, this.drawn] = [rows, true, "", wanted];
      if (!this.current()) this.look(rows.find(({ verdict }) => !verdict) ?? rows[0]);
    } catch (error) {
      this.fault = why(error, "list of suspected labels");
    } finally {
      this.asking = false;
      this.changed();
    }
  }

  current(): Suspect | undefined {
    return this.rows.find((row) => nameOf(row) === this.at);
  }

  look(row: Suspect | undefined): void {
    if (!row || nameOf(row) === this.at) return;
    this.at = nameOf(row);
    this.history = null;
    this.changed();
    void this.recall(row);
  }

  /** One further, or back. */
  walk(step: number): void {
    const place = this.rows.findIndex((row) => nameOf(row) === this.at);
    this.look(this.rows[Math.max(0, Math.min(this.rows.length - 1, place + step))]);
  }

  /** Say what the label is, and go on to the next that has no verdict; `null`: take back what was said. */
  async judge(verdict: Verdict | null): Promise<void> {
    const row = this.current();
    if (!row) return;
    const before = row.verdict;
    if (verdict === before) {
      this.forward(row);
      return;
    }
    row.verdict = verdict; // the hand is faster than the disk; put back where it is refused
    if (verdict) this.forward(row);
    this.changed();
    const done = verdict ? await this.tags.put(`label:${verdict}`, [row], row.loader) : await this.tags.put(`label:${before ?? ""}`, [row], row.loader, true);
    if (done === null) {
      const now = this.rows.find((each) => nameOf(each) === nameOf(row));
      if (now) now.verdict = before;
      this.look(now);
    }
    this.changed();
  }

  private forward(row: Suspect): void {
    const place = this.rows.indexOf(row);
    this.look(this.rows.slice(place + 1).find(({ verdict }) => !verdict) ?? this.rows[place + 1]);
    if (place + 1 >= this.rows.length && this.rows.length === this.limit) {
      this.limit *= 2;
      void this.refresh();
    }
  }

  private async recall(row: Suspect): Promise<void> {
    if (!this.session) return;
    const named = row.sample === null ? `key=${encodeURIComponent(row.key ?? "")}` : `sample=${row.sample}`;
    try {
      const found = (await this.hub.get(`sessions/${this.session.id}/history?run=${this.session.run}&${named}`)) as History;
      if (this.at === nameOf(row)) this.history = found;
    } catch (error) {
      this.fault = fault(error);
    }
    this.changed();
  }
}

/** The list as cleanlab and pandas read it: CSV. */
export function table(rows: readonly Suspect[]): string {
  const heads = Object.keys(rows[0] ?? {}) as (keyof Suspect)[];
  const cell = (value: Suspect[keyof Suspect]) => {
    if (typeof value === "boolean") return value ? "True" : "False";
    const text = value === null ? "" : String(value);
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [heads.join(","), ...rows.map((row) => heads.map((head) => cell(row[head])).join(",")), ""].join("\r\n");
}
