// The part of a session's log that is on the page: its end while it is followed, else what the reader scrolled to.
import { NotServed, why, type Hub } from "./hub";
import { compact, lines, type Line } from "./lines";
import type { LogEntry, Logs, Session } from "./protocol";

/** Entries asked for at once. */
export const PAGE = 500;
/** Between two questions for what came since: a log that runs is read as well, and drawn at a fifth of the cost. */
export const REST_MS = 400;
/** Lines that are kept on the page. */
export const MAX_LINES = 2000;

export class LogStore {
  shown: Line[] = [];
  /** The hub has older ones. */
  earlier = false;
  following = true;
  search = "";
  /** Why there is nothing new; empty: all is well. */
  fault = "";
  loaded = false;

  private session: Session | null = null;
  private entries: LogEntry[] = [];
  /** Of the oldest entry that was asked for. */
  private first = 0;
  private cursor = "";
  /** `Session.logs` as of the newest answer. */
  private known = -1;
  private asking = false;
  /** Ends a rest. */
  private wake: (() => void) | null = null;
  private open = false;
  /** The hub does not know the question: asking again is of no use. */
  private useless = false;

  constructor(
    private readonly hub: Hub,
    private readonly changed: () => void,
  ) {}

  /** The session as it is now; another one begins from its end. */
  follow(session: Session | null): void {
    if (session?.id !== this.session?.id) {
      this.session = session;
      this.search = "";
      this.restart();
    }
    this.session = session;
    void this.poll();
  }

  /** Entries that came since the reader stopped following; 0 while he follows. */
  get missed(): number {
    return this.following || this.known < 0 ? 0 : Math.max(0, (this.session?.logs ?? 0) - this.known);
  }

  /** The tab is looked at, or no longer. */
  look(open: boolean): void {
    this.open = open;
    void this.poll();
  }

  find(text: string): void {
    if (text === this.search) return;
    this.search = text;
    this.restart();
    void this.poll();
  }

  /** Stay where the reader is, or go to the end and stay there. */
  stay(following: boolean): void {
    if (following === this.following) return;
    this.following = following;
    this.wake?.();
    this.changed();
    void this.poll();
  }

  async older(): Promise<void> {
    if (!this.earlier || this.asking) return;
    this.following = false;
    await this.ask(`before=${this.first}`, ({ entries, earlier }) => {
      this.first = entries[0]?.row ?? this.first;
      this.earlier = earlier;
      this.keep([...entries, ...this.entries], "oldest");
    });
    await this.poll(); // in case the reader went back to the end meanwhile
  }

  /** Ask for what came since; a reader who is far behind gets the end, not all that lies between. */
  async poll(): Promise<void> {
    const count = this.session?.logs ?? 0;
    const idle = !this.session || !this.open || !this.following || this.asking || this.wake !== null || this.useless;
    if (idle || count === 0 || count === this.known) return;
    const fresh = !this.cursor || count - this.known > PAGE;
    await this.ask(fresh ? "" : `after=${encodeURIComponent(this.cursor)}`, ({ entries, earlier, cursor }) => {
      if (fresh) {
        this.first = entries[0]?.row ?? 0;
        this.earlier = earlier;
      }
      this.cursor = cursor;
      this.known = count;
      this.keep(fresh ? entries : [...this.entries, ...entries], "newest");
    });
    if (this.fault) return; // the next change of the session asks again
    if (!fresh) await this.rest();
    await this.poll(); // what came meanwhile
  }

  private async rest(): Promise<void> {
    await new Promise<void>((resume) => {
      this.wake = resume;
      setTimeout(resume, REST_MS);
    });
    this.wake = null;
  }

  private async ask(range: string, take: (logs: Logs) => void): Promise<void> {
    const [session, search] = [this.session?.id ?? "", this.search];
    const query = [range, `limit=${PAGE}`, search && `search=${encodeURIComponent(search)}`].filter(Boolean).join("&");
    this.asking = true;
    try {
      const logs = (await this.hub.get(`sessions/${session}/logs?${query}`)) as Logs;
      if (session === this.session?.id && search === this.search) {
        take(logs);
        this.fault = "";
        this.loaded = true;
      }
    } catch (error) {
      this.fault = why(error, "log");
      this.useless = error instanceof NotServed && error.unknownRoute;
    } finally {
      this.asking = false;
      this.changed();
    }
    if (session !== this.session?.id || search !== this.search) await this.poll();
  }

  private keep(entries: LogEntry[], end: "oldest" | "newest"): void {
    const wanted = this.search.toLowerCase();
    // Between entries that were found others are missing: none goes on where the one before it stopped.
    const parts = wanted ? entries.map((entry) => lines([entry])) : null;
    this.entries = parts ? entries : compact(entries);
    const all = parts ? parts.flat().filter(({ text }) => text.toLowerCase().includes(wanted)) : lines(this.entries);
    this.shown = this.same(end === "newest" ? all.slice(-MAX_LINES) : all.slice(0, MAX_LINES));
    if (all.length <= MAX_LINES) return;
    const rows = new Set(this.shown.map(({ key }) => Number(key.split(" ")[0])));
    const [low, high] = [Math.min(...rows), Math.max(...rows)];
    this.entries = this.entries.filter(({ row }) => row >= low && row <= high);
    if (end === "newest") {
      this.first = low;
      this.earlier = true;
    } else {
      this.cursor = ""; // the end was let go: following begins anew there
      this.known = -1;
    }
  }

  /** The same objects for the same lines: they are not drawn again. */
  private same(all: Line[]): Line[] {
    const before = new Map(this.shown.map((line) => [line.key, line]));
    return all.map((line) => {
      const known = before.get(line.key);
      return known?.text === line.text && known.time === line.time ? known : line;
    });
  }

  private restart(): void {
    this.wake?.();
    this.entries = [];
    this.shown = [];
    this.earlier = false;
    this.following = true;
    this.fault = "";
    this.loaded = false;
    this.cursor = "";
    this.known = -1;
    this.changed();
  }
}
