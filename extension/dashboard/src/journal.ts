// What was changed in the shown session, by whom and when: asked for whenever the hub has saved more of it.
import { NotServed, why, type Hub } from "./hub";
import type { Journal, JournalEntry, Session } from "./protocol";

export class JournalStore {
  /** In the order in which things were done; what all ranks of a job did stands once. */
  entries: JournalEntry[] = [];
  loaded = false;
  fault = "";

  private session = "";
  /** Entries that the hub has, as it last said. */
  private count = 0;
  private asking = false;

  constructor(
    private readonly hub: Hub,
    private readonly changed: () => void,
  ) {}

  follow({ id, journal }: Session): void {
    if (id !== this.session) {
      this.session = id;
      this.entries = [];
      this.count = 0;
      this.loaded = journal === 0;
      this.fault = journal === undefined ? "This hub is older than the page and keeps no journal." : "";
    }
    if (journal === undefined || journal === this.count) return;
    this.count = journal;
    void this.refresh();
  }

  /** Ask now; while an answer is under way, once more after it where there is more. */
  private async refresh(): Promise<void> {
    if (this.asking) return;
    this.asking = true;
    const { session, count } = this;
    const here = () => session === this.session;
    try {
      const { entries } = (await this.hub.get(`sessions/${session}/journal`)) as Journal;
      if (here()) {
        this.entries = once(entries);
        this.loaded = true;
        this.fault = "";
      }
    } catch (error) {
      if (here()) {
        this.fault = why(error, "journal");
        if (!(error instanceof NotServed)) this.count = 0; // asked again with the session's next message
      }
    }
    this.asking = false;
    this.changed();
    if (this.count && (!here() || count !== this.count)) await this.refresh();
  }
}

/** Ranks of a job make the same changes at the same step: the first one's entry stands for all. */
function once(entries: readonly JournalEntry[]): JournalEntry[] {
  const seen = new Set<string>();
  return entries.filter(({ rank = 0, name, args, step, point, by }) => {
    const same = JSON.stringify([name, args, step, point, by]);
    if (rank > 0 && seen.has(same)) return false;
    seen.add(same);
    return true;
  });
}
