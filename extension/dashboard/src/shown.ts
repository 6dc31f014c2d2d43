// Samples themselves: at a pause the script reads them from its data set; what came is kept while the session is shown.
import type { Asked, CommandStore } from "./commands";
import { LIVE } from "./controls";
import type { Session } from "./protocol";

/** One tensor, text, number, ... of a sample. */
export interface ShownPart {
  /** Its place or name in the sample: `0`, `image`. */
  name: string;
  kind: "image" | "heat" | "audio" | "text" | "row" | "value" | "none";
  /** What it is: `1×28×28 float32, 0 to 1`. */
  says: string;
  /** Base64: of an image or a heat map. */
  png?: string;
  width?: number;
  height?: number;
  text?: string;
  row?: [name: string, value: string][];
  /** Of a waveform: the lowest and highest value of each of its parts. */
  low?: number[];
  high?: number[];
}

export interface ShownSample {
  sample: number;
  parts: ShownPart[];
  target: string | null;
  /** Why it could not be drawn; empty: it could. */
  reason: string;
}

const PLACE = "show";
/** In one command: an answer has at most a megabyte. */
const AT_ONCE = 24;
const KEPT = 2000;
export const LARGE = 320;

export class ShownStore {
  /** Why the last question was refused; empty: it was not. */
  refusal = "";
  private readonly found = new Map<string, ShownSample>();
  private readonly wanted = new Map<string, { sample: number; loader: string; size: number }>();
  private session: Session | null = null;
  /** Of the command that is under way. */
  private size = 0;

  constructor(private readonly commands: CommandStore) {}

  follow(session: Session): void {
    if (session.id !== this.session?.id) {
      this.found.clear();
      this.wanted.clear();
      this.refusal = "";
    } else if (session.state !== this.session.state) this.refusal = "";
    this.session = session;
  }

  /** Samples can be read now; else a sentence that says when. */
  why(): string {
    const { session } = this;
    if (!session || !LIVE.has(session.state)) return "The script has ended: its data set is gone, and its samples cannot be read any more.";
    if (session.state !== "paused") return "Pause the script to see the samples themselves: they are read from its data set.";
    return this.refusal;
  }

  get(sample: number, loader: string, size = 96): ShownSample | undefined {
    return this.found.get(key(sample, loader, size)) ?? (size > 96 ? this.found.get(key(sample, loader, 96)) : undefined);
  }

  /** Have these read, those that are not known, the newest question first. */
  want(samples: readonly number[], loader: string, size = 96): void {
    if (this.session?.state !== "paused" || this.refusal) return;
    this.wanted.clear();
    for (const sample of samples) {
      const name = key(sample, loader, size);
      if (!this.found.has(name)) this.wanted.set(name, { sample, loader, size });
    }
    this.ask();
  }

  /** An answer has come to something. */
  take(asked: Asked | null): void {
    if (asked?.command.name !== "show" || asked.state === "sent" || asked.state === "accepted" || !this.size) return;
    if (asked.state === "wrong") {
      this.refusal = [asked.reason, asked.remedy].filter(Boolean).join(": ");
      this.wanted.clear();
    } else {
      const items = (asked.answer?.result?.["samples"] ?? []) as ShownSample[];
      const { loader = "" } = asked.command.args;
      for (const item of items) this.found.set(key(item.sample, loader, this.size), item);
      for (const sample of asked.command.args.samples) this.wanted.delete(key(sample, loader, this.size));
      while (this.found.size > KEPT) this.found.delete(this.found.keys().next().value ?? "");
    }
    this.size = 0;
    this.ask();
  }

  private ask(): void {
    const first = this.wanted.values().next().value;
    if (!first || this.commands.pending(PLACE)) return;
    const alike = [...this.wanted.values()].filter(({ loader, size }) => loader === first.loader && size === first.size).slice(0, first.size > 96 ? 2 : AT_ONCE);
    this.size = first.size;
    this.commands.send(PLACE, { name: "show", args: { samples: alike.map(({ sample }) => sample), loader: first.loader, size: first.size } });
  }
}

function key(sample: number, loader: string, size: number): string {
  return `${loader}/${sample}/${size}`;
}
