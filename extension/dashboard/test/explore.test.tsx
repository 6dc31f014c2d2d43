import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { classes, confusion, figures, type Evaluation } from "../src/evaluations";
import { exportSelection } from "../src/exports";
import { inside } from "../src/maps";
import { Health } from "../src/parts/insight/Health";
import { Review } from "../src/parts/insight/Review";
import { Samples } from "../src/parts/insight/Samples";
import { Test } from "../src/parts/insight/Test";
import type { Answer, Selected } from "../src/protocol";
import { table, type Suspect } from "../src/review";
import { named, ranges } from "../src/tagging";
import { FakeHub, session, shown } from "./fake";

let root: HTMLElement;

beforeEach(() => {
  root = document.createElement("div");
  document.body.replaceChildren(root);
});
afterEach(() => { render(null, root); });

const text = () => root.textContent;
const settled = () => act(async () => { await new Promise((resolve) => { setTimeout(resolve, 0); }); });

function suspect(changes: Partial<Suspect> = {}): Suspect {
  return {
    place: 1, loader: "loader0", sample: 7, key: null, is_label_issue: true, label_quality: 0.02, given_label: 3, predicted_label: 8, verdict: null, margin: -3, variability: 0.1,
    forgetting: 0, learned: null, count: 5, loss_mean: 4, loss_last: 4.2, evidence: "class 8 led by 3.00 on average", ...changes,
  };
}

function selected(changes: Partial<Selected> = {}): Selected {
  return { session: "k3f9q2ma", run: "baseline", phase: "train", evaluation: "", epoch: null, select: "worst=100", count: 0, says: "", rows: [], ...changes };
}

describe("a list of samples", () => {
  it("is one term of the language, short where numbers follow each other", () => {
    expect(ranges([1, 2, 3, 7, 9, 10])).toBe("1:3,7,9:10");
    expect(named([{ sample: 9, key: null }, { sample: 8, key: null }])).toBe("sample=8:9");
    expect(named([{ sample: null, key: "a b" }])).toBe("key='a b'");
  });

  it("lies in a lasso where a ray crosses the line an odd number of times", () => {
    const line = [[0, 0], [10, 0], [10, 10], [5, 2], [0, 10]] as const;
    expect([[1, 1], [5, 1], [5, 8], [9, 7], [11, 5]].map(([x = 0, y = 0]) => inside(line, x, y))).toEqual([true, true, false, true, false]);
  });

  it("becomes a file of the hub's bytes", async () => {
    const hub = new FakeHub();
    hub.change = () => selected({ count: 2, file: btoa("[1,2]") });
    await exportSelection(hub, "k3f9q2ma", { select: "worst=2", format: "arrow", what: "indices" }, "name");
    expect(hub.saved).toEqual(["name.feather"]);
  });
});

describe("Review", () => {
  async function reviewing(rows: Suspect[]) {
    const { hub, model } = shown();
    hub.answers.set("/suspects", rows);
    hub.answers.set("/history", { session: "k3f9q2ma", run: "baseline", sample: 7, key: null, epoch: [0, 1], step: [0, 9], loss: [2, 4], confidence: [null, null] });
    hub.answers.set("/tags", { session: "k3f9q2ma", tags: [], counts: {} });
    const draw = () => act(() => { render(<Review model={model} session={session()} />, root); });
    await draw();
    await settled();
    await draw();
    return { hub, model, draw };
  }

  it("judges by keys, goes on to the next without a verdict, and tells the hub", async () => {
    const { hub, draw } = await reviewing([suspect(), suspect({ place: 2, sample: 8, verdict: "fine" }), suspect({ place: 3, sample: 9 })]);
    expect(text()).toContain("Sample 7");
    expect(text()).toContain("Class 8 led by 3.00 on average.");
    hub.change = () => ({ session: "k3f9q2ma", tags: [], counts: { "label:wrong": 1 }, changed: 1 });
    await act(() => { document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "w", bubbles: true })); });
    await settled();
    await draw();
    expect(hub.changes).toEqual([["POST", "sessions/k3f9q2ma/tags", { tag: "label:wrong", samples: [7], keys: [], loader: "loader0", by: "dashboard" }]]);
    expect(root.querySelector("h3")?.textContent).toContain("Sample 9");
    expect(text()).toContain("2 reviewed · 1 wrong");
  });

  it("takes a verdict back, and shows again what the hub refused", async () => {
    const { hub, model, draw } = await reviewing([suspect({ verdict: "wrong" }), suspect({ sample: 8 })]);
    hub.change = () => ({ session: "k3f9q2ma", tags: [], counts: {}, changed: 1 });
    model.review.walk(-1);
    await act(() => { document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "0", bubbles: true })); });
    expect(hub.changes[0]?.slice(0, 2)).toEqual(["DELETE", "sessions/k3f9q2ma/tags"]);
    hub.change = () => { throw new Error("gone"); };
    await act(() => { document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "f", bubbles: true })); });
    await settled();
    await draw();
    expect(root.querySelector("h3")?.textContent).toContain("Sample 7");
    expect(model.review.current()?.verdict).toBeNull();
    expect(text()).toContain("look whether it was done");
  });

  it("writes what cleanlab and pandas read", () => {
    const lines = table([suspect({ evidence: 'a, "b"' })]).split("\r\n");
    expect(lines[0]).toContain("is_label_issue,label_quality,given_label,predicted_label,verdict");
    expect(lines[1]).toBe('1,loader0,7,,True,0.02,3,8,,-3,0.1,0,,5,4,4.2,"a, ""b"""');
  });
});

describe("Samples", () => {
  it("says why nothing is meant, and what is no selection", async () => {
    const { hub, model } = shown();
    hub.answers.set("/tags", { session: "k3f9q2ma", tags: [], counts: { blurred: 2 } });
    hub.change = () => selected({ says: "no sample is meant by 'loss=9:': train of run baseline" });
    await act(() => { render(<Samples model={model} session={session()} />, root); });
    await settled();
    await act(() => { render(<Samples model={model} session={session()} />, root); });
    expect(text()).toContain("No sample is meant by");
    expect(text()).toContain("blurred 2");
    expect(hub.changes[0]).toEqual(["POST", "sessions/k3f9q2ma/selection", { select: "worst=100", phase: "train", run: "baseline", limit: 500 }]);
  });
});

describe("ShownStore", () => {
  it("asks at a pause only, keeps what came, and says what was refused until the state is another", () => {
    const { hub, model } = shown({ state: "running" });
    model.shown.want([7], "loader0");
    expect(hub.sent.filter(({ type }) => type === "command")).toEqual([]);
    expect(model.shown.why()).toContain("Pause the script");
    model.event({ type: "session", session: session({ state: "paused" }) });
    model.shown.want([7, 8], "loader0");
    const [asked] = hub.sent.filter(({ type }) => type === "command");
    expect(asked).toMatchObject({ name: "show", args: { samples: [7, 8], loader: "loader0", size: 96 } });
    const id = asked && "id" in asked ? (asked.id) : "";
    const answer = (changes: Partial<Answer>): Answer => ({ id, n: 1, status: "applied", ...changes });
    model.event({ type: "answer", session: "k3f9q2ma", answer: answer({ result: { samples: [{ sample: 7, parts: [], target: "3", reason: "" }] } }) });
    expect(model.shown.get(7, "loader0")?.target).toBe("3");
    expect(model.shown.get(7, "loader1")).toBeUndefined();
    expect(model.shown.why()).toBe("");
  });
});

describe("tests and health", () => {
  const evaluation: Evaluation = {
    kind: "test", label: "test_1", run: "baseline", step: 10, epoch: 1, loader: "loader1", mode: "eval", by: "ana", began: 0, seconds: 1, count: 4, partial: true, reason: "cancelled by ana", how: "recipe, reproduced 3 of 3",
    result: { loss: 0.5, accuracy: 0.75, error: 0.25, per_class: [{ class: 0, count: 2, accuracy: 1 }, { class: 1, count: 2, accuracy: 0.5 }], confusion: [[2, 0], [1, 1]] },
  };

  it("read a result's figures, classes and matrix", () => {
    expect(figures(evaluation)).toEqual([["loss", 0.5], ["accuracy", 0.75]]);
    expect(classes(evaluation).map(({ accuracy }) => accuracy)).toEqual([1, 0.5]);
    expect(confusion(evaluation)).toEqual([[2, 0], [1, 1]]);
  });

  it("mark what is partial, and open a cell's samples", async () => {
    const { hub, model } = shown();
    hub.answers.set("/evaluations", { session: "k3f9q2ma", evaluations: [evaluation] });
    await act(() => { render(<Test model={model} session={session()} />, root); });
    await settled();
    await act(() => { render(<Test model={model} session={session()} />, root); });
    expect(text()).toContain("partial");
    expect(text()).toContain("cancelled by ana");
    await act(() => { root.querySelector<HTMLElement>(".miss button")?.click(); });
    expect(model.tab).toBe("Samples");
    expect(model.explore.asked).toEqual({ select: "class=1 predicted=0", phase: "test", evaluation: "test_1" });
  });

  it("show the worst check first, and say where a hub knows neither", async () => {
    const { hub, model } = shown();
    const check = (name: string, verdict: string) => ({ check: name, verdict, says: `${name} says`, do: "do it", numbers: { dead: 3, share: 0.25, fine: true } });
    hub.answers.set("/health", { session: "k3f9q2ma", results: [check("numerics", "good"), check("data", "bad"), check("numerics", "warning")] });
    await act(() => { render(<Health model={model} session={session()} />, root); });
    await settled();
    await act(() => { render(<Health model={model} session={session()} />, root); });
    expect([...root.querySelectorAll("tbody tr strong")].map((name) => name.textContent)).toEqual(["data", "numerics"]);
    expect(text()).toContain("dead 3");
    expect(text()).toContain("fine yes");
    expect(model.health.bad).toBe(2);
  });
});
