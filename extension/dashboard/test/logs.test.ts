import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { NotServed } from "../src/hub";
import { LogStore, MAX_LINES, PAGE, REST_MS } from "../src/logs";
import type { LogEntry, Logs } from "../src/protocol";
import { entry, FakeHub, session } from "./fake";

/** A hub that has this log, and answers as the real one does. */
function hubWith(log: LogEntry[]): FakeHub {
  const hub = new FakeHub();
  hub.answer = (path) => {
    const query = new URL(path, "http://hub/").searchParams;
    const [after, before, limit] = [query.get("after"), Number(query.get("before") ?? Infinity), Number(query.get("limit"))];
    const found = log.filter(({ row, text }) => row >= Number(after ?? 0) && row < before && text.includes(query.get("search") ?? ""));
    const entries = after === null ? found.slice(-limit) : found.slice(0, limit);
    return { session: "k3f9q2ma", entries, cursor: String((entries[entries.length - 1]?.row ?? -1) + 1), earlier: entries.length < found.length } satisfies Logs;
  };
  return hub;
}

const numbered = (count: number) => Array.from({ length: count }, (_, row) => entry(row, `line ${row}\n`));
/** Until all that was asked for has come. */
const settled = () => vi.advanceTimersByTimeAsync(REST_MS);
const ends = (store: LogStore) => [store.shown[0]?.text, store.shown[store.shown.length - 1]?.text];

async function reading(log: LogEntry[]): Promise<{ hub: FakeHub; store: LogStore }> {
  const hub = hubWith(log);
  const store = new LogStore(hub, () => undefined);
  store.follow(session({ logs: log.length }));
  store.look(true);
  await settled();
  return { hub, store };
}

beforeEach(() => { vi.useFakeTimers(); });
afterEach(() => { vi.useRealTimers(); });

describe("LogStore", () => {
  it("asks for nothing while nobody looks, nor where nothing was written", async () => {
    const hub = hubWith([]);
    const store = new LogStore(hub, () => undefined);
    store.follow(session({ logs: 3 }));
    store.look(true);
    store.look(false);
    await settled();
    const asked = hub.asked.length;
    store.follow(session({ logs: 4 }));
    await settled();
    expect(hub.asked.length).toBe(asked);
    const silent = await reading([]);
    expect(silent.hub.asked).toEqual([]);
  });

  it("begins with the end, and then asks only for what came since", async () => {
    const log = numbered(3);
    const { hub, store } = await reading(log);
    log.push(entry(3, "line 3\n"));
    store.follow(session({ logs: 4 }));
    await settled();
    expect(hub.asked.map((path) => path.split("?")[1])).toEqual([`limit=${PAGE}`, `after=3&limit=${PAGE}`]);
    expect(ends(store)).toEqual(["line 0", "line 3"]);
  });

  it("rests between questions, and then asks for all that came meanwhile", async () => {
    const log = numbered(3);
    const { hub, store } = await reading(log);
    const line = store.shown[0];
    for (let row = 3; row < 50; row++) {
      log.push(entry(row, `line ${row}\n`));
      store.follow(session({ logs: log.length }));
      await vi.advanceTimersByTimeAsync(10);
    }
    await settled();
    expect(hub.asked).toHaveLength(4); // the end, the first line that came, the others in two
    expect(ends(store)).toEqual(["line 0", "line 49"]);
    expect(store.shown[0]).toBe(line); // and is not drawn again
  });

  it("misses nothing that came while the first answer was under way, nor while it rested", async () => {
    const log = numbered(3);
    const hub = hubWith(log);
    const store = new LogStore(hub, () => undefined);
    store.follow(session({ logs: 2 }));
    store.look(true);
    store.follow(session({ logs: 3 })); // the newest word of a script that ends now
    await settled();
    expect(ends(store)).toEqual(["line 0", "line 2"]);
    for (const row of [3, 4]) {
      log.push(entry(row, `line ${row}\n`));
      store.follow(session({ logs: log.length }));
      await vi.advanceTimersByTimeAsync(1);
    }
    await settled();
    expect(ends(store)).toEqual(["line 0", "line 4"]);
  });

  it("shows another session at once, also while it rests", async () => {
    const log = numbered(3);
    const { store } = await reading(log);
    log.push(entry(3, "line 3\n"));
    store.follow(session({ logs: 4 }));
    await vi.advanceTimersByTimeAsync(1);
    store.follow(session({ id: "zzzzzzzz", logs: 4 }));
    await vi.advanceTimersByTimeAsync(1);
    expect(store.shown).toHaveLength(4);
  });

  it("jumps to the end when more came than one answer holds", async () => {
    const log = numbered(10);
    const { store } = await reading(log);
    for (let row = 10; row < 3000; row++) log.push(entry(row, `line ${row}\n`));
    store.follow(session({ logs: log.length }));
    await settled();
    expect(ends(store)).toEqual(["line 2500", "line 2999"]);
    expect(store.earlier).toBe(true);
  });

  it("stays where the reader is, counts what he misses, and catches up", async () => {
    const log = numbered(3);
    const { store } = await reading(log);
    store.stay(false);
    log.push(entry(3, "line 3\n"));
    store.follow(session({ logs: 4 }));
    await settled();
    expect(ends(store)).toEqual(["line 0", "line 2"]);
    expect(store.missed).toBe(1);
    store.stay(true);
    await settled();
    expect(ends(store)).toEqual(["line 0", "line 3"]);
  });

  it("loads older lines, keeps a bounded number, and finds back to the end", async () => {
    const { store } = await reading(numbered(5 * PAGE));
    expect(ends(store)).toEqual(["line 2000", "line 2499"]);
    for (let page = 0; page < 4; page++) await store.older();
    expect(ends(store)).toEqual(["line 0", `line ${MAX_LINES - 1}`]);
    expect(store.earlier).toBe(false);
    expect(store.following).toBe(false);
    store.stay(true);
    await settled();
    expect(ends(store)).toEqual(["line 2000", "line 2499"]);
  });

  it("keeps the lines above a long progress bar", async () => {
    const log = numbered(5);
    const { store } = await reading(log);
    for (let row = 5; row < 5000; row += 100) {
      for (let at = row; at < row + 100; at++) log.push(entry(at, `\r${at} of 5000`, { stream: "stderr" }));
      store.follow(session({ logs: log.length }));
      await settled();
    }
    expect(store.shown).toHaveLength(6);
    expect(ends(store)).toEqual(["line 0", "5004 of 5000"]);
  });

  it("shows only lines that contain what was looked for", async () => {
    const { hub, store } = await reading([entry(0, "epoch 1\nloss 3\n"), entry(1, "other\n"), entry(2, "loss 4\n")]);
    store.find("loss &");
    await settled();
    expect(hub.asked[1]).toContain("search=loss%20%26");
    expect(store.shown).toEqual([]);
    store.find("loss");
    await settled();
    expect(store.shown.map(({ text }) => text)).toEqual(["loss 3", "loss 4"]);
  });

  it("does not mix an answer of another session or search into what is shown now", async () => {
    const { hub, store } = await reading(numbered(2));
    store.find("1"); // its answer is under way when the next search is typed
    store.find("line 0");
    await settled();
    expect(store.shown.map(({ text }) => text)).toEqual(["line 0"]);
    expect(hub.asked).toHaveLength(3);
    store.follow(session({ id: "zzzzzzzz", logs: 0 }));
    expect(store.shown).toEqual([]);
  });

  it("says in words that a hub keeps no log, and does not ask it again and again", async () => {
    const hub = new FakeHub();
    hub.answer = () => { throw new NotServed({ code: "http_404", message: "Not Found" }); };
    const store = new LogStore(hub, () => undefined);
    store.follow(session({ logs: 1 }));
    store.look(true);
    await settled();
    expect(store.fault).toContain("keeps no log");
    for (let logs = 2; logs < 9; logs++) store.follow(session({ logs }));
    await settled();
    expect(hub.asked).toHaveLength(1);
  });
});
