import { describe, expect, it } from "vitest";
import { compact, lines } from "../src/lines";
import type { LogEntry } from "../src/protocol";
import { entry } from "./fake";

const texts = (entries: LogEntry[]) => lines(entries).map(({ text }) => text);

describe("lines", () => {
  it("splits entries at ends of lines, also those of Windows", () => {
    expect(texts([entry(0, "a\nb\n"), entry(1, "c\r\nd\n")])).toEqual(["a", "b", "c", "d"]);
    expect(texts([entry(0, "a\n\nb\n")])).toEqual(["a", "", "b"]);
  });

  it("goes on with an unfinished line of the same stream and rank, and of no other", () => {
    expect(texts([entry(0, "a"), entry(1, "b\n"), entry(2, "c\n")])).toEqual(["ab", "c"]);
    expect(texts([entry(0, "a"), entry(1, "warning\n", { stream: "stderr" }), entry(2, "b\n")])).toEqual(["warning", "ab"]);
    expect(texts([entry(0, "a"), entry(1, "b\n", { rank: 1 })])).toEqual(["a", "b"]);
  });

  it("shows what follows the last carriage return, as a terminal does", () => {
    expect(texts([entry(0, "10%\r20%\r30%")])).toEqual(["30%"]);
    expect(texts([entry(0, "\r10%"), entry(1, "\r20%"), entry(2, "\r30%\n")])).toEqual(["30%"]);
    expect(texts([entry(0, "10%\r"), entry(1, "20%\r")])).toEqual(["20%"]); // nothing has been written over the last yet
  });

  it("puts a progress bar where its newest state was written, with that time", () => {
    const found = lines([
      entry(0, "\r10%", { stream: "stderr", time: 1 }), entry(1, "epoch 1\n", { time: 2 }), entry(2, "\r20%", { stream: "stderr", time: 3 }),
    ]);
    expect(found.map(({ text, time }) => [text, time])).toEqual([["epoch 1", 2], ["20%", 3]]);
  });

  it("shows no control characters", () => {
    expect(texts([entry(0, "\x1b[1;32mgreen\x1b[0m \x1b]0;title\x07bell\x07\ttab\x1b[A\n")])).toEqual(["green bell\ttab"]);
  });

  it("gives each line a key of its own", () => {
    const keys = lines([entry(0, "a\nb\nc"), entry(1, "d\ne\n")]).map(({ key }) => key);
    expect(new Set(keys).size).toBe(keys.length);
  });
});

describe("compact", () => {
  const bar = (text: string, row: number) => entry(row, text, { stream: "stderr" });

  it("keeps only the newest state of a bar, whichever end its carriage return stands at", () => {
    for (const write of [(n: number) => `\r${n}%`, (n: number) => `${n}%\r`]) {
      const all = Array.from({ length: 1000 }, (_, n) => bar(write(n), n));
      expect(compact(all).length).toBe(1);
      expect(texts(compact(all))).toEqual(["999%"]);
    }
  });

  it("changes nothing of what is seen", () => {
    const cases = [
      [bar("abc", 0), bar("\r\n", 1)], // that return is the end of the line
      [bar("abc\r", 0), bar("\n", 1)],
      [bar("50%", 0), bar("\r6", 1), bar("0%", 2)],
      [bar("begin", 0), bar("10%\r", 1), bar("20%", 2)],
      [bar("\r1%", 0), entry(1, "said\n"), bar("\r2%", 2), bar("\r3%\n", 3), bar("next", 4), bar("\rover", 5)],
      [entry(0, "a\nb"), entry(1, "\rc")],
    ];
    for (const entries of cases) expect(texts(compact(entries))).toEqual(texts(entries));
  });
});
