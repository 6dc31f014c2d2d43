import { describe, expect, it } from "vitest";
import { onlyOneEpoch, places, placesBeside } from "../src/axis";
import { data, grain, hidden, rows } from "../src/chart";
import { kind } from "../src/metrics";
import { Series } from "../src/series";
import { columns } from "./fake";

function series(rows: { step: number[]; epoch?: number[]; time?: number[]; value?: number[]; low?: number[]; high?: number[] }): Series {
  const made = new Series();
  made.take(columns({ value: rows.step, ...rows }));
  return made;
}

describe("places", () => {
  it("puts a point into its epoch by its share of the epoch's steps", () => {
    const found = places(series({ step: [0, 1, 2, 3, 4, 5, 6, 7], epoch: [0, 0, 0, 0, 1, 1, 1, 1] }), "epoch");
    expect(found).toEqual([0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75]);
  });

  it("takes the newest epoch to be as long as the one before, or longer if it is", () => {
    const early = places(series({ step: [0, 1, 2, 3, 4, 5], epoch: [0, 0, 0, 0, 1, 1] }), "epoch");
    expect(early.slice(4)).toEqual([1, 1.25]);
    const late = places(series({ step: [0, 1, 2, 3, 4, 5], epoch: [0, 0, 1, 1, 1, 1] }), "epoch");
    expect(late).toEqual([0, 0.5, 1, 1.25, 1.5, 1.75]);
  });

  it("spreads an only epoch over itself, and it is known that it does", () => {
    const only = series({ step: [0, 1, 2, 3], epoch: [2, 2, 2, 2] });
    expect(places(only, "epoch")).toEqual([2, 2.25, 2.5, 2.75]);
    expect(onlyOneEpoch(only)).toBe(true);
    expect(onlyOneEpoch(series({ step: [0, 1], epoch: [0, 1] }))).toBe(false);
  });

  it("keeps buckets that stand several epochs apart on one line", () => {
    expect(places(series({ step: [0, 300, 400, 500], epoch: [0, 3, 4, 5] }), "epoch")).toEqual([0, 3, 4, 5]);
    expect(places(series({ step: [0, 100, 200, 300], epoch: [0, 0, 0, 3] }), "epoch")).toEqual([0, 1, 2, 3]);
  });

  it("never falls, even where the clock was set back", () => {
    expect(places(series({ step: [0, 1, 2], time: [10, 5, 11] }), "time")).toEqual([10, 10, 11]);
  });
});

describe("a curve beside another", () => {
  const loss = series({ step: [0, 1, 2, 3, 4, 5, 6, 7], epoch: [0, 0, 0, 0, 1, 1, 1, 1] });

  it("stands where the other's steps say, at the end of an epoch and in the middle of one", () => {
    expect(placesBeside(series({ step: [2, 4, 8] }), loss, "epoch")).toEqual([0.5, 1, 1.75]);
    expect(placesBeside(series({ step: [2, 4, 8] }), loss, "step")).toEqual([2, 4, 8]);
    expect(placesBeside(series({ step: [4], epoch: [1] }), series({ step: [] }), "epoch")).toEqual([1]);
  });

  it("is merged in, and makes no gap in the other, nor a point", () => {
    const beside = series({ step: [4, 8], value: [0.5, NaN] });
    expect(rows(loss, beside, "step").filter((row) => row.beside !== undefined)).toEqual([{ at: 4, beside: 0 }, { at: 8, beside: 1 }]);
    const merged = data(loss, "step", false, null, beside);
    expect(merged[0]).toEqual([0, 1, 2, 3, 4, 4, 5, 6, 7, 8]);
    expect(merged[3]).toEqual([0, 1, 2, 3, 4, undefined, 5, 6, 7, undefined]);
    expect(merged[5]).toEqual([undefined, undefined, undefined, undefined, undefined, 0.5, undefined, undefined, undefined, null]);
    const alone = data(loss, "step", false, null);
    expect([...(merged[4] ?? [])].filter((value) => value !== undefined)).toEqual(alone[4]);
    expect(alone).toHaveLength(5);
  });
});

describe("chart data", () => {
  it("leaves out what a logarithmic axis cannot show, and counts it", () => {
    const made = series({ step: [0, 1, 2, 3], value: [1, 0, -2, NaN] });
    expect(data(made, "step", true, null)[3]).toEqual([1, null, null, null]);
    expect(data(made, "step", false, null)[3]).toEqual([1, 0, -2, null]);
    expect(hidden(made)).toBe(2);
  });

  it("smooths by what is shown: a part looks the same however long the run goes on", () => {
    const steps = Array.from({ length: 600 }, (_, step) => step);
    const made = series({ step: steps, value: steps.map((step) => step % 7) });
    const before = data(made, "step", false, { min: 100, max: 130 })[4]?.slice(90, 140);
    made.take(columns({ step: steps.map((step) => step + 600), value: steps }, false));
    expect(data(made, "step", false, { min: 100, max: 130 })[4]?.slice(90, 140)).toEqual(before);
    expect(data(made, "step", false, null)[4]?.slice(90, 140)).not.toEqual(before);
  });

  it("says how many steps a point stands for, in the part that is shown", () => {
    const made = series({ step: [0, 10, 20], value: [1, 1, 1], low: [0, 0, 0], high: [9, 9, 9] });
    expect(grain(made, "step", null)).toBe(10);
    made.take(columns({ step: [30, 31], value: [1, 1] }, false));
    expect(grain(made, "step", { min: 30, max: 40 })).toBeNull();
    expect(grain(made, "step", { min: 0, max: 25 })).toBe(10);
    expect(grain(made, "step", { min: 500, max: 600 })).toBeNull(); // nothing is there
    expect(data(made, "step", false, null)[2]?.[0]).toBe(9);
  });
});

describe("kind", () => {
  it("knows a second group's learning rate, and takes the script's own metrics as they are called", () => {
    expect(kind("lr/1").label).toBe("learning rate, group 1");
    expect(kind("my/metric")).toEqual({ label: "my/metric", unit: "", about: "" });
    expect(kind("constructor").label).toBe("constructor");
    expect(kind("own")).toBe(kind("own")); // a chart is made anew when it changes
  });
});
