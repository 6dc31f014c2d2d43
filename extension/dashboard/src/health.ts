// What checks of the run's health have found: asked for when there are more, or the tab is opened.
import { NotServed, why, type Hub } from "./hub";
import type { Session } from "./protocol";

export type Value = boolean | number | string | null;
export type Verdict = "good" | "warning" | "bad" | "unknown";

/** What one check has found at one moment, as far as it is shown. */
export interface Found {
  check: string;
  verdict: Verdict;
  says: string;
  do?: string;
  numbers?: Record<string, Value>;
  /** The same for each module, loader, ...: the worst first. */
  rows?: Record<string, Value>[];
  run?: string;
  step?: number;
  time?: number;
}

const WORST: Record<Verdict, number> = { bad: 0, warning: 1, unknown: 2, good: 3 };

export class HealthStore {
  /** Of each check the newest, the worst first. */
  found: Found[] = [];
  loaded = false;
  fault = "";
  missing = false;

  private session = "";
  private count = -1;

  constructor(
    private readonly hub: Hub,
    private readonly changed: () => void,
  ) {}

  follow(session: Session): void {
    if (session.id !== this.session) Object.assign(this, { session: session.id, found: [], loaded: false, fault: "", missing: false, count: -1 });
    const count = (session as { health?: number }).health ?? -1;
    if (this.loaded && count !== this.count) void this.refresh();
    this.count = count;
  }

  async refresh(): Promise<void> {
    const { session } = this;
    try {
      const answer = (await this.hub.get(`sessions/${session}/health`)) as { results?: Found[] } | Found[];
      if (session !== this.session) return;
      const all = Array.isArray(answer) ? answer : (answer.results ?? []);
      this.found = [...new Map(all.map((one) => [one.check, one])).values()].sort((a, b) => WORST[a.verdict] - WORST[b.verdict]);
      [this.loaded, this.fault] = [true, ""];
    } catch (error) {
      this.fault = why(error, "checks");
      this.missing = error instanceof NotServed && error.unknownRoute;
    }
    this.changed();
  }

  /** How many are worth a look. */
  get bad(): number {
    return this.found.filter(({ verdict }) => verdict === "bad" || verdict === "warning").length;
  }
}
