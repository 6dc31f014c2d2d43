import { describe, expect, it } from "vitest";
import { atLeast } from "../src/versions";

const ORDER = ["0.1.4", "1.0.0.dev0", "1.0.dev3", "1.0a1.dev1", "1.0a1", "1.0b2", "1.0rc1", "1.0", "1.0.post1.dev2", "1.0.post1", "1.0.1", "1.2", "1.10", "2.0.dev1", "1!0.1"];

describe("atLeast", () => {
  it("orders versions as PEP 440 does", () => {
    ORDER.forEach((older, place) => {
      for (const newer of ORDER.slice(place + 1)) {
        expect([older, newer, atLeast(newer, older), atLeast(older, newer)]).toEqual([older, newer, true, false]);
      }
    });
  });

  it("takes spellings of one version for one", () => {
    for (const [left, right] of [["1.0", "1.0.0"], ["1.0+cpu", "1.0"], ["v1.0-RC.1", "1.0rc1"], ["1.0-1", "1.0.post1"], ["1.0.alpha", "1.0a0"]] as const) {
      expect([left, atLeast(left, right) && atLeast(right, left)]).toEqual([left, true]);
    }
  });

  it("accepts this checkout by the setting's default, and the reference does not pass", () => {
    expect(atLeast("1.0.0.dev0", "1.0.0.dev0")).toBe(true);
    expect(atLeast("0.1.4", "1.0.0.dev0")).toBe(false);
    expect(atLeast("1.0.0.dev0", "1.0")).toBe(false);
  });

  it("accepts nothing that is no version", () => {
    expect(atLeast("unknown", "1.0")).toBe(false);
    expect(atLeast("1.0", "")).toBe(false);
  });
});
