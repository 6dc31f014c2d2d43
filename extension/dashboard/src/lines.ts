// What a script wrote, as lines: a carriage return takes a line back to its beginning, as on a terminal, and a line that
// is written in pieces stands where its newest piece was written.
import type { LogEntry } from "./protocol";

export interface Line {
  key: string;
  time: number;
  rank: number;
  stream: LogEntry["stream"];
  text: string;
}

// Colours, cursor movements and titles: a list of lines has no use for them.
const CONTROL = /\x1b\[[0-9:;<=>?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-_]|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]/g;

const source = ({ rank, stream }: LogEntry): string => `${rank} ${stream}`;

/** What is seen of a line: what follows its last carriage return; one at its end has not been written over yet. */
function seen(raw: string): string {
  const text = raw.replace(/\r+$/, "");
  return text.slice(text.lastIndexOf("\r") + 1).replace(CONTROL, "");
}

export function lines(entries: readonly LogEntry[]): Line[] {
  const result = new Map<string, Line>();
  const open = new Map<string, { key: string; raw: string }>();
  for (const entry of entries) {
    const from = source(entry);
    const parts = entry.text.split("\n");
    const rest = parts.pop() ?? "";
    const put = (number: number, text: string) => {
      const unfinished = open.get(from);
      if (unfinished) result.delete(unfinished.key);
      const key = `${entry.row} ${number}`;
      const raw = (unfinished?.raw ?? "") + text;
      result.set(key, { key, time: entry.time, rank: entry.rank, stream: entry.stream, text: seen(raw) });
      return { key, raw };
    };
    parts.forEach((text, number) => {
      put(number, text);
      open.delete(from);
    });
    if (rest) open.set(from, put(parts.length, rest));
  }
  return [...result.values()];
}

/** Whether `next` begins by writing over the unfinished line that `before` is a piece of. */
function overwrites(before: string, next: string): boolean {
  return !before.includes("\n") && (before.endsWith("\r") ? /^\r*[^\r\n]/ : /^\r+[^\r\n]/).test(next);
}

/** Without the states of progress bars that were written over: a long bar would push out all other lines. */
export function compact(entries: readonly LogEntry[]): LogEntry[] {
  const kept: LogEntry[] = [];
  const last = new Map<string, number>();
  for (const entry of entries) {
    const place = last.get(source(entry));
    const before = place === undefined ? undefined : kept[place];
    if (place !== undefined && before && overwrites(before.text, entry.text)) {
      kept.splice(place, 1);
      for (const [key, at] of last) if (at > place) last.set(key, at - 1);
      kept.push(entry.text.startsWith("\r") ? entry : { ...entry, text: `\r${entry.text}` });
    } else kept.push(entry);
    last.set(source(entry), kept.length - 1);
  }
  return kept;
}
