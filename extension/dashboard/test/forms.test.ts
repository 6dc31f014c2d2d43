import { describe, expect, it } from "vitest";
import { bytes, exact, name, number, numbers, positive, sized, typed, whole } from "../src/forms";
import { columns, common } from "../src/groups";
import { settings } from "../src/parts/checkpoints/Keep";
import type { ParameterGroup } from "../src/protocol";

describe("numbers", () => {
  it("are read as people write them", () => {
    expect(["0.01", " 1e-3", "3E-4", ".5", "-2", "−2", "1_000", "5."].map((text) => number(text).value)).toEqual([0.01, 1e-3, 3e-4, 0.5, -2, -2, 1000, 5]);
  });

  it("are refused with what is expected where they are none", () => {
    for (const text of ["", "abc", "1e", "0x10", "1e999", "Infinity", "1 2"]) expect(number(text).fault).toBeTruthy();
    expect(number("0,5").fault).toBe("write 0.5 with a point");
    expect(positive("0").fault).toBe("more than 0");
  });

  it("come in as many as there were", () => {
    expect(numbers("0.9, 0.99", [0.9, 0.999]).value).toEqual([0.9, 0.99]);
    expect(numbers("(0.9 0.99)", [0.9, 0.999]).value).toEqual([0.9, 0.99]);
    expect(numbers("0.9", [0.9, 0.999]).fault).toBe("2 numbers, such as 0.9, 0.999");
    expect(numbers("0.9, x", [0.9, 0.999]).fault).toContain("“x” is no number");
  });

  it("are whole where steps are counted", () => {
    expect(["500", "1,000", "2_000", "2k", "1e4"].map((text) => whole(text, 1, "steps").value)).toEqual([500, 1000, 2000, 2000, 10_000]);
    expect(whole("1.5", 1, "steps").fault).toBe("steps: a whole number");
    expect(whole("0", 1, "steps").fault).toBe("steps: at least 1");
  });

  it("are written so that they can be typed again", () => {
    expect([0.1, 1e-8, 3e-4, 0, 0.001, 123456, 0.10000000149011612].map(exact)).toEqual(["0.1", "1e-8", "3e-4", "0", "0.001", "123456", "0.1"]);
    for (const value of [0.123456789, 1 / 3, 5e-324, 1.7e308]) expect(Math.abs((number(exact(value)).value ?? 0) - value)).toBeLessThanOrEqual(1e-7 * value);
    expect(typed([0.9, 0.999])).toBe("0.9, 0.999");
  });
});

describe("sizes and names", () => {
  it("are read with their unit", () => {
    expect(["512", "512 MB", "2gb", "1.5 GB"].map((text) => bytes(text).value)).toEqual([512e6, 512e6, 2e9, 1.5e9]);
    expect(bytes("much").fault).toContain("512 MB");
    expect([512e6, 4e9].map(sized)).toEqual(["512 MB", "4 GB"]);
    expect(name("before-lr").value).toBe("before-lr");
    expect(name("../x").fault).toBeTruthy();
  });

  it("of a form that keeps checkpoints hold only what was changed", () => {
    expect(settings({})).toEqual({});
    expect(settings({ every: "500", on_pause: true })).toEqual({ every: 500, on_pause: true });
    expect(settings({ every: "", disk: "1 GB" })).toEqual({ every: 0, disk: 1e9 });
    expect(settings({ memory: "x" })).toContain("memory: a size");
  });
});

describe("parameter groups", () => {
  const group = (number: number, values: ParameterGroup["values"]): ParameterGroup => ({ optimizer: 0, kind: "SGD", group: number, parameters: 1, values });

  it("have what people change most first, and say what they share", () => {
    const groups = [group(0, { dampening: 0, momentum: 0.9, lr: 0.1 }), group(1, { lr: 0.2, momentum: 0.9, betas: [0, 1] })];
    expect(columns(groups)).toEqual(["lr", "momentum", "betas", "dampening"]);
    expect(common(groups, "lr")).toEqual({ value: null, like: 0.1 });
    expect(common(groups, "momentum")).toEqual({ value: 0.9, like: 0.9 });
    expect(common(groups, "betas")).toEqual({ value: [0, 1], like: [0, 1] });
    expect(common(groups, "eps")).toBeNull();
  });
});
