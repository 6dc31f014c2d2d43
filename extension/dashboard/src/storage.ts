// What the sessions take on the disk, asked for while somebody looks at it; and what a person does to them as files.
import { fault, NotServed, why, type Hub } from "./hub";
import type { ExportRequest, Session, SessionStorage, Storage as Answer } from "./protocol";

/** Every file of every session is looked at for it. */
export const ASK_MS = 10_000;

/** The code of a bundle with pickled parts, which is taken in only after a yes. */
const UNTRUSTED = "untrusted";

export class StorageStore {
  answer: Answer | null = null;
  fault = "";
  /** What is under way, or came of it, in words. */
  said = "";
  /** Why the last thing that was asked was not done; it stays until the next, or until it is read. */
  wrong = "";
  busy = false;
  /** A bundle that has to be trusted first. */
  doubted: Blob | null = null;

  private watchers = 0;
  private timer: ReturnType<typeof setInterval> | undefined;

  constructor(
    private readonly hub: Hub,
    private readonly changed: () => void,
  ) {}

  /** Ask until the returned function is called. */
  watch(): () => void {
    if (this.watchers++ === 0) {
      void this.refresh();
      this.timer = setInterval(() => void this.refresh(), ASK_MS);
    }
    return () => {
      if (--this.watchers === 0) clearInterval(this.timer);
    };
  }

  of(session: string): SessionStorage | undefined {
    return this.answer?.sessions.find(({ id }) => id === session);
  }

  async refresh(): Promise<void> {
    try {
      this.answer = (await this.hub.get("storage")) as Answer;
      this.fault = "";
    } catch (error) {
      this.fault = why(error, "account of the disk");
      if (error instanceof NotServed && error.unknownRoute) clearInterval(this.timer);
    }
    this.changed();
  }

  pin({ id, name }: Session, pinned: boolean): Promise<boolean> {
    return this.act("", async () => {
      await this.hub.ask("POST", `sessions/${id}/pin`, { pinned });
      return pinned ? `${name} (${id}) stays, whatever the budget.` : `${name} (${id}) goes when it is the oldest and room is needed.`;
    });
  }

  remove({ id, name }: Session): Promise<boolean> {
    return this.act(`Deleting ${id}…`, async () => {
      await this.hub.ask("DELETE", `sessions/${id}`);
      return `${name} (${id}) is deleted.`;
    });
  }

  export(session: Session, wanted: ExportRequest): Promise<boolean> {
    return this.act(`Putting ${session.id}.otf together…`, async () => ((await this.hub.bundle(session.id, wanted)) ? `${session.id}.otf is saved.` : ""));
  }

  /** Take a bundle in; the session that it became, or null. Trust is asked for where the bundle needs it. */
  async import(file: Blob, trust = false): Promise<Session | null> {
    let found: Session | null = null;
    this.doubted = null;
    await this.act("Reading and verifying the bundle…", async () => {
      try {
        found = (await this.hub.ask("POST", `import${trust ? "?trust=yes" : ""}`, file)) as Session;
      } catch (error) {
        if (error instanceof NotServed && error.code === UNTRUSTED) this.doubted = file;
        throw error;
      }
      return `Imported as ${found.id}.`;
    });
    return found;
  }

  /** The refusal was read. */
  dismiss(): void {
    this.said = this.wrong = "";
    this.doubted = null;
    this.changed();
  }

  /** One at a time; true if it was done. */
  private async act(under: string, work: () => Promise<string>): Promise<boolean> {
    if (this.busy) return false;
    [this.busy, this.said, this.wrong] = [true, under, ""];
    this.changed();
    try {
      this.said = await work();
    } catch (error) {
      [this.said, this.wrong] = ["", fault(error)];
    }
    this.busy = false;
    if (this.watchers) void this.refresh();
    this.changed();
    return !this.wrong;
  }
}
