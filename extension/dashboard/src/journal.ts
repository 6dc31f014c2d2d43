// What was changed in the shown session, by whom and when: asked for when there may be something new.
import type { Command } from "./commands";
import { NotServed, why, type Hub } from "./hub";
import type { Journal, JournalEntry, Session } from "./protocol";

/** Commands that leave an entry. */
const CHANGES: ReadonlySet<string> = new Set(["set", "clip", "freeze", "unfreeze", "subset", "rewind", "choose"]);

export class JournalStore {
  /** In the order in which things were done. */
  entries: JournalEntry[] = [];
  loaded = false;
  fault = "";

  private session = "";
  /** What is under control, as far as a change would show in it. */
  private seen = "";
  private asking = false;
  private again = false;
  private served = true;

  constructor(
    private readonly hub: Hub,
    private readonly changed: () => void,
  ) {}

  follow(session: Session): void {
    if (session.id !== this.session) {
      this.session = session.id;
      this.entries = [];
      this.loaded = false;
      this.fault = "";
      this.seen = "";
      this.served = true;
    }
    const seen = sign(session);
    if (seen === this.seen) return;
    this.seen = seen;
    void this.refresh();
  }

  /** A command of this page was done. */
  done({ name }: Command): void {
    if (CHANGES.has(name)) void this.refresh();
  }

  /** Ask now; while an answer is under way, once more after it. */
  async refresh(): Promise<void> {
    if (!this.session || !this.served) return;
    if (this.asking) {
      this.again = true;
      return;
    }
    this.asking = true;
    const session = this.session;
    try {
      const { entries } = (await this.hub.get(`sessions/${session}/journal`)) as Journal;
      if (session === this.session) {
        this.entries = entries;
        this.loaded = true;
        this.fault = "";
      }
    } catch (error) {
      if (session === this.session) {
        this.fault = why(error, "journal");
        if (error instanceof NotServed && error.unknownRoute) this.served = false;
      }
    }
    this.asking = false;
    this.changed();
    if (this.again || session !== this.session) {
      this.again = false;
      await this.refresh();
    }
  }
}

/** Changes whenever somebody changed something; not with each step of a trial, nor with each planned pause. */
function sign({ run, controls = {} }: Session): string {
  const { groups, clip, frozen, frozen_parameters, subset, trial } = controls;
  return JSON.stringify([run, groups, clip, frozen, frozen_parameters, subset, trial?.phase]);
}
