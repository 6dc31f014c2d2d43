import { describe, expect, it } from "vitest";
import { decodeColumns, type Columns } from "../src/columns";
import { columns as message } from "./fake";
import { CAPACITY, Series, smooth } from "../src/series";

function columns(step: number[], value: number[], reset = false): Columns {
  return message({ step, value }, reset);
}

describe("Series", () => {
  it("keeps a single spike however long the run is", () => {
    const series = new Series();
    const steps = Array.from({ length: 50_000 }, (_, step) => step);
    series.take(columns(steps, steps.map((step) => (step === 31_337 ? 99 : step === 12_345 ? -7 : 1))));
    expect(series.length).toBeLessThanOrEqual(CAPACITY);
    expect(Math.max(...series.high)).toBe(99);
    expect(Math.min(...series.low)).toBe(-7);
    expect(series.weight.reduce((sum, weight) => sum + weight, 0)).toBe(50_000);
  });

  it("weighs means by how many values a point stands for", () => {
    const series = new Series();
    const steps = Array.from({ length: CAPACITY * 4 }, (_, step) => step);
    series.take(columns(steps, steps));
    const mean = series.value.reduce((sum, value, place) => sum + value * (series.weight[place] ?? 0), 0) / steps.length;
    expect(mean).toBeCloseTo((steps.length - 1) / 2);
  });

  it("takes the hub's buckets for what they are: many steps, from lowest to highest", () => {
    const series = new Series();
    series.take(message({ step: [0, 10, 20], epoch: [0, 0, 1], time: [1, 2, 3], value: [3, 2, 1], low: [1, 1, 0], high: [9, 4, 2] }));
    expect(series.weight).toEqual([10, 10, 10]);
    expect(series.at(2)).toEqual({ step: 20, epoch: 1, time: 3, value: 1, low: 0, high: 2, weight: 10 });
    series.take(columns([30], [1]));
    expect(series.at(3).weight).toBe(1);
  });

  it("replaces on reset and appends otherwise", () => {
    const series = new Series();
    series.take(columns([0, 1], [5, 4], true));
    series.take(columns([2], [3]));
    expect(series.value).toEqual([5, 4, 3]);
    series.take(columns([9], [1], true));
    expect(series.step).toEqual([9]);
  });

  it("marks what is no number and keeps its neighbours", () => {
    const series = new Series();
    const steps = Array.from({ length: CAPACITY + 2 }, (_, step) => step);
    series.take(columns(steps, steps.map((step) => (step === 10 ? NaN : step === 12 ? Infinity : 2))));
    expect(series.bad).toEqual([10, 12]);
    expect(series.value.every((value) => value === 2)).toBe(true);
  });
});

describe("smooth", () => {
  it("has no lag: a straight line stays where it is", () => {
    const line = Array.from({ length: 50 }, (_, place) => 3 * place);
    smooth(line, 7).forEach((value, place) => { expect(value).toBeCloseTo(3 * place); });
  });

  it("leaves NaN out", () => {
    expect(smooth([1, NaN, 3], 1)[1]).toBe(2);
  });
});

describe("decodeColumns", () => {
  it("reads every dtype at its padded place", () => {
    const header = JSON.stringify({
      session: "s", run: "r", metric: "loss", reset: true, cursor: "3",
      columns: [{ name: "a", dtype: "i4", count: 3 }, { name: "b", dtype: "f8", count: 1 }, { name: "c", dtype: "i8", count: 1 }, { name: "d", dtype: "u1", count: 2 }],
    });
    const start = Math.ceil((4 + header.length) / 8) * 8;
    const buffer = new ArrayBuffer(start + 16 + 8 + 8 + 8);
    const view = new DataView(buffer);
    view.setUint32(0, header.length, true);
    new Uint8Array(buffer, 4, header.length).set(new TextEncoder().encode(header));
    [7, -8, 9].forEach((value, place) => { view.setInt32(start + 4 * place, value, true); });
    view.setFloat64(start + 16, Math.PI, true);
    view.setBigInt64(start + 24, -5n, true);
    view.setUint8(start + 33, 200);
    const { arrays } = decodeColumns(buffer);
    expect(arrays.get("a")).toEqual(Float64Array.from([7, -8, 9]));
    expect(arrays.get("b")).toEqual(Float64Array.from([Math.PI]));
    expect(arrays.get("c")).toEqual(Float64Array.from([-5]));
    expect(arrays.get("d")).toEqual(Float64Array.from([0, 200]));
    expect(() => decodeColumns(buffer.slice(0, start + 4))).toThrow(RangeError);
  });
});
