import { describe, expect, it, vi } from "vitest";
import { words } from "../src/changes";
import { NotServed } from "../src/hub";
import { JournalStore } from "../src/journal";
import { drawMarkers, markers, placed, under } from "../src/markers";
import type { Finding, JournalEntry } from "../src/protocol";
import { Series } from "../src/series";
import { columns, FakeHub, session, shown } from "./fake";

const change = (name: string, args: Record<string, unknown>, before = {}, after = {}) => words({ name, args, before, after });

function entry(changes: Partial<JournalEntry> = {}): JournalEntry {
  return { time: 100, run: "baseline", step: 5, epoch: 0, backward: 5, point: 5, name: "set", args: { name: "lr", value: 0.01 }, before: { "0/0": 0.1 }, after: { "0/0": 0.01 }, by: "ana", ...changes };
}

describe("words of a change", () => {
  it("say what, from what, to what, and of which group where that matters", () => {
    expect(change("set", { name: "lr" }, { "0/0": 0.1 }, { "0/0": 0.01 })).toBe("lr 0.1 → 0.01");
    expect(change("set", { name: "lr" }, { "0/0": 0.1, "0/1": 0.1 }, { "0/0": 0.01, "0/1": 0.01 })).toBe("lr 0.1 → 0.01");
    expect(change("set", { name: "lr" }, { "1/0": 0.1 }, { "1/0": 0.01 })).toBe("lr 0.1 → 0.01 (optimizer 1, group 0)");
    expect(change("set", { name: "lr" }, { "0/0": 0.1, "0/1": 0.2 }, { "0/0": 0.01, "0/1": 0.01 })).toBe("lr 0.1 → 0.01 (group 0), 0.2 → 0.01 (group 1)");
    expect(change("set", { name: "betas" }, { "0/0": [0.9, 0.999] }, { "0/0": [0.8, 0.999] })).toBe("betas 0.9, 0.999 → 0.8, 0.999");
    expect(change("clip", {}, { clip: "norm 1" }, { clip: "" })).toBe("clipping norm 1 → off");
    expect(change("freeze", { pattern: "a.*" }, { frozen: 0 }, { frozen: 1200 })).toBe("freeze a.*: 0 → 1,200 numbers frozen");
    expect(change("subset", { mode: "exclude", samples: [1, 2], add: true })).toBe("leave out 2 more samples");
    expect(change("subset", { mode: "all" })).toBe("draw all samples again");
    expect(change("rewind", { checkpoint: "c1" }, { step: 60 }, { step: 50 })).toBe("rewind checkpoint c1 (step 60 → 50)");
    expect(change("new-one", {})).toBe("new-one");
  });
});

describe("JournalStore", () => {
  const settled = () => new Promise((resume) => { setTimeout(resume); });
  function store() {
    const hub = new FakeHub();
    hub.answers.set("/journal", { session: "k3f9q2ma", entries: [entry()] });
    return { hub, journal: new JournalStore(hub, () => undefined) };
  }

  it("asks when there is more of it, and not with each step", async () => {
    const { hub, journal } = store();
    journal.follow(session({ journal: 0 }));
    expect([journal.loaded, hub.asked.length]).toEqual([true, 0]);
    journal.follow(session({ journal: 1 }));
    journal.follow(session({ journal: 2 })); // while the answer is under way: once more after it
    await settled();
    expect([journal.entries.length, hub.asked.length]).toEqual([1, 2]);
    journal.follow(session({ journal: 2, step: 99 }));
    await settled();
    expect(hub.asked).toHaveLength(2);
  });

  it("forgets what belongs to another session, and asks no hub that keeps none", async () => {
    const { hub, journal } = store();
    journal.follow(session({ journal: 1 }));
    journal.follow(session({ id: "zzzzzzzz", journal: 3 })); // the answer of the first is under way
    expect(journal.entries).toEqual([]);
    await settled();
    expect(hub.asked.pop()).toBe("sessions/zzzzzzzz/journal");
    journal.follow(session({ id: "older" }));
    await settled();
    expect(hub.asked).toHaveLength(1);
    expect(journal.fault).toBe("This hub is older than the page and keeps no journal.");
  });

  it("asks again after a hub that did not answer, not after one that will not", async () => {
    const { hub, journal } = store();
    hub.answers.clear();
    journal.follow(session({ journal: 1 }));
    await settled();
    expect(journal.fault).toContain("did not answer");
    hub.answer = () => { throw new NotServed({ code: "busy", message: "the store is closed" }); };
    for (const step of [1, 2, 3]) {
      journal.follow(session({ journal: 1, step }));
      await settled();
    }
    expect([hub.asked.length, journal.fault]).toEqual([2, "the store is closed."]);
  });

  it("has what all ranks of a job did once, and what a process did alone", async () => {
    const { hub, journal } = store();
    hub.answers.set("/journal", { session: "k3f9q2ma", entries: [entry(), entry({ rank: 1 }), entry({ rank: 2, step: 6 }), entry()] });
    journal.follow(session({ journal: 4 }));
    await settled();
    expect(journal.entries.map(({ rank, step }) => `${rank ?? 0} ${step}`)).toEqual(["0 5", "2 6", "0 5"]);
  });
});

describe("markers", () => {
  const finding: Finding = { alarm: "loss-spike", step: 8, time: 108, text: "loss 9" };
  function curve(): Series {
    const series = new Series();
    series.take(columns({ step: [0, 10, 20], epoch: [0, 0, 1], time: [100, 110, 120], value: [3, 2, 1] }));
    return series;
  }

  it("stand where they happened, by step, epoch and time, in the order of the axis", () => {
    const found = markers([entry({ step: 15, time: 115 }), entry()], [finding], 20);
    expect(placed(found, curve(), "step").map(({ at }) => at)).toEqual([5, 8, 15, 20]);
    expect(placed(found, curve(), "time").map(({ at }) => at)).toEqual([100, 108, 115, 120]);
    const [first] = placed(found, curve(), "epoch");
    expect(first?.at).toBeCloseTo(0.25);
    expect(placed(found, new Series(), "step")).toEqual([]);
  });

  it("tell who did what when the pointer is near, and no more than fits", () => {
    const found = placed(markers([entry()], [finding], 5), curve(), "step");
    const pixel = (at: number) => at * 10;
    expect(under(found, 52, pixel)).toBe("step 5: lr 0.1 → 0.01, by ana");
    expect(under(found, 80, pixel)).toBe("step 8: loss-spike: loss 9");
    expect(under(found, 65, pixel)).toBe("");
    const many = placed(markers(Array.from({ length: 5 }, () => entry()), [], null), curve(), "step");
    expect(under(many, 50, pixel)).toMatch(/ · and 2 more$/);
  });

  it("are drawn once a pixel, however many there are", () => {
    const calls = { fill: vi.fn(), stroke: vi.fn() };
    const ctx = new Proxy(calls, { get: (target, name) => (name in target ? target[name as keyof typeof target] : () => undefined), set: () => true });
    const plot = { ctx, bbox: { left: 0, top: 0, width: 100, height: 50 }, root: document.body, valToPos: (at: number) => at };
    const found = placed(markers(Array.from({ length: 2000 }, () => entry()), [], 7), curve(), "step");
    drawMarkers(plot as unknown as Parameters<typeof drawMarkers>[0], found);
    expect(calls.fill).toHaveBeenCalledTimes(1);
    expect(calls.stroke).toHaveBeenCalledTimes(2); // and the line that is pointed at
  });

  it("point at a step, and no more on the second click or with another session", () => {
    const { model } = shown();
    model.point(5);
    expect(model.pointed).toBe(5);
    model.point(5);
    expect(model.pointed).toBeNull();
    model.point(7);
    model.event({ type: "snapshot", session: session({ id: "zzzzzzzz" }), sessions: [], cursor: "0" });
    expect(model.pointed).toBeNull();
  });
});
