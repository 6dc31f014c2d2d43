// Tags of samples, which the hub keeps: what stands on which sample, and how many there are of each.
import { fault, NotServed, type Hub } from "./hub";
import type { Session, TagRequest, Tags } from "./protocol";
import type { Named } from "./samples";

/** What a review may say of a label. */
export const VERDICTS = ["wrong", "fine", "unsure"] as const;
export type Verdict = (typeof VERDICTS)[number];

export const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(?::[A-Za-z0-9_.-]{1,64})?$/;

export class TagStore {
  /** Samples by tag. */
  counts: Record<string, number> = {};
  /** Why the last change was not made. */
  wrong = "";
  /** This hub keeps tags. */
  there = true;

  private session = "";

  constructor(
    private readonly hub: Hub,
    private readonly changed: () => void,
  ) {}

  follow({ id }: Session): void {
    if (id === this.session) return;
    [this.session, this.counts, this.wrong, this.there] = [id, {}, "", true];
  }

  async refresh(): Promise<void> {
    const { session } = this;
    try {
      const found = (await this.hub.get(`sessions/${session}/tags?limit=0`)) as Tags;
      if (session === this.session) this.counts = found.counts;
    } catch (error) {
      if (error instanceof NotServed && error.unknownRoute) this.there = false;
    }
    this.changed();
  }

  /** Put a tag on these samples, or take it off; how many had it not before, null where it was not done. */
  async put(tag: string, samples: readonly Named[], loader: string, off = false): Promise<number | null> {
    const { session } = this;
    const wanted: TagRequest = {
      tag, loader, by: "dashboard", samples: samples.flatMap(({ sample }) => sample ?? []),
      keys: samples.flatMap(({ sample, key }) => (sample === null && key !== null ? [key] : [])),
    };
    this.wrong = "";
    try {
      const found = (await this.hub.ask(off ? "DELETE" : "POST", `sessions/${session}/tags`, wanted)) as Tags;
      if (session === this.session) this.counts = found.counts;
      return found.changed ?? 0;
    } catch (error) {
      this.wrong = fault(error);
      return null;
    } finally {
      this.changed();
    }
  }
}

/** The samples as a term of a selection. */
export function named(samples: readonly Named[]): string {
  const indices = samples.flatMap(({ sample }) => sample ?? []).sort((a, b) => a - b);
  const keys = samples.flatMap(({ sample, key }) => (sample === null && key !== null ? [key] : []));
  return indices.length ? `sample=${ranges(indices)}` : `key='${keys.join(",").replaceAll("'", "'\"'\"'")}'`;
}

/** `3,7:9`: of ascending numbers. */
export function ranges(numbers: readonly number[]): string {
  const found: [number, number][] = [];
  for (const number of numbers) {
    const last = found[found.length - 1];
    if (last && number === last[1] + 1) last[1] = number;
    else if (!last || number !== last[1]) found.push([number, number]);
  }
  return found.map(([from, to]) => (from === to ? String(from) : `${from}:${to}`)).join(",");
}
