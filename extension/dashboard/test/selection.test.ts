import { describe, expect, it } from "vitest";
import { replaces, Selection, subset, weighted } from "../src/selection";
import { command, curves, effect } from "../src/trial";
import type { ParameterGroup, SubsetInfo, TrialInfo } from "../src/protocol";
import * as format from "../src/format";

const LIST = [11, 12, null, 14, 15];
const now = (mode: SubsetInfo["mode"]): SubsetInfo => ({ mode, count: 4, loader: "loader0", since: 0 });

describe("Selection", () => {
  it("takes single samples and ranges, past those that have no index", () => {
    const one = new Selection().toggle(12, LIST, false);
    expect([...one.chosen]).toEqual([12]);
    expect([...one.toggle(15, LIST, true).chosen]).toEqual([12, 14, 15]);
    expect([...one.toggle(11, LIST, true).chosen].sort()).toEqual([11, 12]);
    expect([...one.toggle(12, LIST, false).chosen]).toEqual([]);
  });

  it("keeps what has left the list, and begins no range there", () => {
    const gone = new Selection().toggle(12, LIST, false);
    expect([...gone.toggle(15, [14, 15], true).chosen]).toEqual([12, 15]);
    expect([...new Selection([99]).all(LIST).chosen]).toEqual([99, 11, 12, 14, 15]);
    expect([...new Selection([99]).all(LIST).all(LIST).chosen]).toEqual([99]);
  });

  it("becomes a command that comes on top of one of the same kind", () => {
    const chosen = new Set([12, 3]);
    expect(subset("exclude", chosen, null).value).toEqual({ name: "subset", args: { mode: "exclude", samples: [3, 12] } });
    expect(subset("exclude", chosen, now("exclude")).value?.args).toMatchObject({ add: true });
    expect(subset("include", chosen, now("include")).value?.args).not.toHaveProperty("add");
    expect(weighted("0.5", chosen, now("weights")).value?.args).toEqual({ mode: "weights", samples: [3, 12], weights: [0.5], add: true });
    expect(weighted("-1", chosen, null).fault).toBe("a weight from 0 to 100");
    expect(subset("exclude", new Set(Array.from({ length: 4001 }, (_, at) => at)), null).fault).toContain("at most 4000");
    expect([replaces("exclude", now("exclude")), replaces("include", null)]).toEqual(["", ""]);
    expect(replaces("include", now("exclude"))).toContain("Takes the place of what holds now");
  });
});

describe("a trial", () => {
  const groups: ParameterGroup[] = [{ optimizer: 0, kind: "AdamW", group: 0, parameters: 1, values: { lr: 0.1, betas: [0.9, 0.999] } }];
  const form = { steps: "50", kind: "set" as const, name: "lr", text: "1e-2" };

  it("is asked for by what was typed", () => {
    expect(command(form, groups).value).toEqual({ name: "trial", args: { steps: 50, name: "set", args: { name: "lr", value: 0.01 } } });
    expect(command({ ...form, name: "betas", text: "0.8, 0.99" }, groups).value?.args).toMatchObject({ args: { value: [0.8, 0.99] } });
    expect(command({ ...form, kind: "norm", text: "1" }, groups).value?.args).toMatchObject({ name: "clip", args: { norm: 1 } });
    expect(command({ ...form, kind: "freeze", text: "a.*" }, []).value?.args).toMatchObject({ name: "freeze", args: { pattern: "a.*" } });
    const faults = [{ steps: "0" }, { steps: "200000" }, { name: "momentum" }, { text: "x" }, { kind: "norm" as const, text: "0" }, { kind: "freeze" as const, text: " " }];
    for (const wrong of faults) expect(command({ ...form, ...wrong }, groups).fault).toBeTruthy();
  });

  it("has paired differences, and gaps where a loss is no number", () => {
    const trial = { steps: 4, change: "", phase: "with", start: 0, without: [1, 2, null, 4], changed: [2, 2, 3] } as unknown as TrialInfo;
    expect(curves(trial, 300)).toEqual({ without: [1, 2, null, 4], changed: [2, 2, 3], difference: [1, 0, null] });
    expect(curves(trial, 2)).toEqual({ without: [1.5, 4], changed: [2, 3], difference: [0.5, null] });
  });

  it("tells its effect with the interval", () => {
    const trial: TrialInfo = { steps: 4, change: "", phase: "choose", start: 0, effect: -0.5, low: -0.75, high: 0.25 };
    expect(effect(trial, format.loss)).toBe("with minus without: -0.5000 on average, 95 % interval -0.7500 to +0.2500");
    expect(effect({ ...trial, low: null }, format.loss)).toBe("with minus without: -0.5000 on average");
    expect(effect({ ...trial, effect: null }, format.loss)).toBe("");
  });
});
