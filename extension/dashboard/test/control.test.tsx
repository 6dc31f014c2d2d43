import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Model } from "../src/model";
import { App } from "../src/parts/App";
import type { Answer, CheckpointInfo, Controls, ParameterGroup, SendCommand, Session } from "../src/protocol";
import { histogram, recorded, session, shown, type FakeHub } from "./fake";

vi.mock("../src/parts/Chart", () => ({ Chart: () => null })); // needs a canvas; the end-to-end test looks at it

let root: HTMLElement;
let hub: FakeHub;
let model: Model;

beforeEach(() => {
  root = document.createElement("div");
  document.body.replaceChildren(root);
});
afterEach(() => { render(null, root); });

const settled = async () => {
  await new Promise((resume) => setTimeout(resume));
  await new Promise((resume) => requestAnimationFrame(resume));
};
const acted = async (action: () => void) => {
  await act(action);
  await act(settled);
};

/** A page that shows a session with this under control; one of its tabs. */
async function page(controls: Controls, tab = "", changes: Partial<Session> = {}): Promise<void> {
  ({ hub, model } = shown({ controls, ...changes }));
  hub.answers.set("/journal", { session: "k3f9q2ma", entries: [] });
  await acted(() => { render(<App model={model} />, root); });
  if (tab) await acted(() => { root.querySelector<HTMLElement>(`#tab-${tab}`)?.click(); });
}

function one(selector: string): HTMLElement {
  const found = root.querySelector<HTMLElement>(selector);
  if (!found) throw new Error(`there is no ${selector}`);
  return found;
}
const labelled = (label: string) => one(`[aria-label="${label}"]`) as HTMLInputElement;
/** The field whose label begins so. */
function field(label: string): HTMLInputElement {
  const found = [...root.querySelectorAll("label")].find(({ textContent }) => textContent.trim().startsWith(label));
  if (!found) throw new Error(`there is no field ${label}`);
  return (found.querySelector("input") ?? one(`[id="${found.htmlFor}"]`)) as HTMLInputElement;
}
const text = (selector = "#tab") => one(selector).textContent;
function button(name: string, within = root): HTMLButtonElement {
  const found = [...within.querySelectorAll("button")].find(({ textContent }) => textContent.trim() === name);
  if (!found) throw new Error(`there is no button ${name}`);
  return found;
}
const click = (name: string, within = root) => acted(() => { button(name, within).click(); });
const type = (input: HTMLInputElement, value: string) => acted(() => {
  input.value = value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
});
const press = (target: Element, key: string, more: KeyboardEventInit = {}) => acted(() => { target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...more })); });
const choose = (select: HTMLSelectElement, value: string) => acted(() => {
  select.value = value;
  select.dispatchEvent(new Event("change", { bubbles: true }));
});
const commands = () => hub.sent.filter((message): message is SendCommand => message.type === "command").map(({ name, args }) => ({ name, args }));
/** The newest command is answered so. */
const answered = (changes: Partial<Answer>) => acted(() => {
  const id = hub.sent.filter((message) => message.type === "command").pop()?.id ?? "";
  model.event({ type: "answer", session: "k3f9q2ma", answer: { id, n: 0, status: "applied", step: 12, ...changes } });
});
const told = (controls: Controls) => acted(() => { model.event({ type: "session", session: session({ controls }) }); });

function group(number: number, lr: number): ParameterGroup {
  return { optimizer: 0, kind: "SGD", group: number, parameters: 10, values: { lr, momentum: 0.9 } };
}

describe("the bar", () => {
  it("says since when, by whom and why the script is paused", async () => {
    await page({}, "", { state: "paused", since: Date.now() / 1000 - 750, by: "ana (ctl)", reason: "loss < 0.1 was reached" });
    expect(text(".state")).toContain("12 min ago by ana (ctl): loss < 0.1 was reached");
  });

  it("steps with a key, and keeps a checkpoint with another, but not where text is typed", async () => {
    await page({});
    await press(document.body, ".");
    await answered({});
    await press(document.body, "c");
    expect(commands()).toEqual([{ name: "step", args: { steps: 1 } }, { name: "checkpoint", args: {} }]);
    await answered({});
    expect(text(".over")).toContain("checkpoint: done");
    await acted(() => { labelled("Pause at a later moment").click(); });
    await press(one(".panel input"), ".");
    expect(commands()).toHaveLength(2);
  });

  it("plans pauses, and shows why one was refused under its field until it is asked anew", async () => {
    await page({ pauses: [{ text: "step 500", by: "ana" }] });
    expect(text(".drop")).toContain("pauses at step 500");
    await acted(() => { labelled("Pause at a later moment").click(); });
    expect(text("[aria-label='Planned pauses']")).toMatch(/step 500 ana/);
    const when = field("Pause when");
    await type(when, "loss <");
    await acted(() => { when.form?.requestSubmit(); });
    await answered({ status: "refused", reason: "it ends too early", remedy: "write loss < 0.1" });
    expect(text(".panel .wrong")).toContain("pause refused: it ends too early – write loss < 0.1");
    await acted(() => { model.event({ type: "session", session: session({ step: 13, controls: {} }) }); });
    expect(text(".panel .wrong")).toContain("it ends too early");
    expect(when.value).toBe("loss <");
    await press(when, "Escape");
    expect(root.querySelector(".panel")).toBeNull();
    expect(text(".drop")).toContain("not planned");
    await acted(() => { labelled("Pause at a later moment").click(); });
    const at = field("Pause at step");
    await type(at, "x");
    await acted(() => { at.form?.requestSubmit(); });
    expect(text(".panel")).toContain("a whole number");
    expect(commands()).toHaveLength(1);
  });

  it("cancels what is planned", async () => {
    await page({ pauses: [{ text: "step 500", by: "ana" }, { text: "epoch 3", by: "" }] });
    expect(text(".drop")).toContain("2 pauses planned");
    await acted(() => { labelled("Pause at a later moment").click(); });
    await click("Cancel all");
    expect(commands()).toEqual([{ name: "cancel", args: {} }]);
  });

  it("asks once before the script ends, with how", async () => {
    await page({});
    await acted(() => { labelled("Stop the script").click(); });
    expect(commands()).toEqual([]);
    await click("Keep it running");
    await acted(() => { labelled("Stop the script").click(); });
    await click("End at once");
    expect(commands()).toEqual([{ name: "stop", args: { now: true } }]);
    await answered({ status: "refused", reason: "2 ranks train" });
    expect(text(".over")).toContain("stop refused: 2 ranks train");
  });
});

describe("Control", () => {
  const two = { groups: [group(0, 0.1), group(1, 0.2)] };

  it("sets a number of one group, or of all, in place", async () => {
    await page(two, "Control");
    const cell = labelled("lr of SGD, group 1");
    await type(cell, "1e-2");
    await press(cell, "Enter");
    expect(cell.readOnly).toBe(true); // until there is an answer
    await told({ groups: [group(0, 0.1), group(1, 0.01)] });
    await answered({ result: { before: { "0/1": 0.2 }, after: { "0/1": 0.01 } } });
    expect(cell.value).toBe("0.01");
    expect(text()).toContain("lr 0.2 → 0.01 (group 1) at step 12");
    const all = labelled("lr of all groups");
    expect([all.value, all.placeholder]).toEqual(["", "differ"]);
    await type(all, "0.5");
    await press(all, "Enter");
    expect(commands()).toEqual([
      { name: "set", args: { name: "lr", optimizer: 0, group: 1, value: 0.01 } }, { name: "set", args: { name: "lr", value: 0.5 } },
    ]);
  });

  it("puts back what is there on Escape, and asks nothing where nothing was changed or read", async () => {
    await page(two, "Control");
    const cell = labelled("momentum of SGD, group 0");
    await type(cell, "much");
    await press(cell, "Enter");
    expect(text()).toContain("“much” is no number");
    await press(cell, "Escape");
    expect([cell.value, cell.getAttribute("aria-invalid")]).toEqual(["0.9", "false"]);
    await type(cell, "0.9");
    await press(cell, "Enter");
    expect(commands()).toEqual([]);
  });

  it("keeps a refused value to mend it, with the reason", async () => {
    await page(two, "Control");
    const cell = labelled("lr of SGD, group 0");
    await type(cell, "-1");
    await press(cell, "Enter");
    await answered({ status: "refused", reason: "lr must not be negative" });
    expect([cell.value, cell.readOnly, cell.title]).toEqual(["-1", false, "refused: lr must not be negative"]);
    expect(text(".said.wrong")).toContain("set refused: lr must not be negative");
  });

  it("shows what somebody else has set, and never overwrites what is being typed", async () => {
    await page(two, "Control");
    const cell = labelled("lr of SGD, group 0");
    await type(cell, "0.05");
    await told({ groups: [group(0, 0.3), group(1, 0.2)] });
    expect(cell.value).toBe("0.05");
    expect(text(".cell.open .note")).toBe("now 0.3");
    await press(cell, "Escape");
    expect(cell.value).toBe("0.3");
    await told({ groups: [group(0, 0.4), group(1, 0.2)] });
    expect(cell.value).toBe("0.4");
  });

  it("clips and clips no more; freezes, and lets parameters train again; draws all samples again", async () => {
    await page({ ...two, frozen: ["encoder.*"], frozen_parameters: 4096, subset: { mode: "exclude", count: 3, loader: "loader0", since: 8 } }, "Control");
    await click("norm");
    await type(labelled("Largest norm"), "0");
    await click("Apply");
    expect(text()).toContain("more than 0");
    await type(labelled("Largest norm"), "2.5");
    await click("Apply");
    await answered({ result: { before: { clip: "" }, after: { clip: "norm 2.5" } } });
    await told({ ...two, clip: "norm 2.5", frozen: ["encoder.*"], frozen_parameters: 4096, subset: { mode: "exclude", count: 3, loader: "loader0", since: 8 } });
    expect(text()).toMatch(/now by norm 2\.5.*clipping off → norm 2\.5 at step 12/s);
    await click("off");
    await click("Apply");
    expect(text()).toContain("4,096 numbers are kept as they are");
    await acted(() => { labelled("Unfreeze encoder.*").click(); });
    await type(field("Freeze"), "head.*");
    await click("Freeze");
    expect(text()).toContain("3 samples are left out (loader0, from backward call 8 on)");
    await click("Draw all again");
    expect(commands()).toEqual([
      { name: "clip", args: { norm: 2.5 } }, { name: "clip", args: {} }, { name: "unfreeze", args: { pattern: "encoder.*" } },
      { name: "freeze", args: { pattern: "head.*" } }, { name: "subset", args: { mode: "all" } },
    ]);
  });

  it("shows what was under control in a session that is over, and offers nothing", async () => {
    await page(two, "Control", { state: "ended" });
    const cell = labelled("lr of SGD, group 0");
    await type(cell, "1");
    await press(cell, "Enter");
    expect([cell.readOnly, commands().length]).toEqual([true, 0]);
    expect(button("Freeze").disabled).toBe(true);
  });
});

describe("Checkpoints", () => {
  const checkpoint = (changes: Partial<CheckpointInfo>): CheckpointInfo => ({
    name: "c", run: "baseline", step: 10, epoch: 1, time: Date.now() / 1000 - 130, why: "asked", memory: 2e6, disk: 3e6, state: "durable", back: true, reason: "", ...changes,
  });

  it("lists them newest first, goes back where that can be, and says why it cannot", async () => {
    await page({ checkpoints: [checkpoint({ name: "old", time: 1, back: false, reason: "it is of another epoch" }), checkpoint({ name: "new", state: "failed", disk: 0, fault: "no space left" })] }, "Checkpoints");
    expect([...root.querySelectorAll("#tab tbody .key")].map(({ textContent }) => textContent)).toEqual(["new", "old"]);
    expect(text()).toMatch(/2 min ago.*2 MB.*not written.*no space left.*no way back: it is of another epoch/s);
    expect([...root.querySelectorAll("button")].filter(({ textContent }) => textContent === "Go back")).toHaveLength(1);
    await click("Go back");
    expect(commands()).toEqual([]);
    await click("Go back to 10");
    await answered({ status: "refused", reason: "the model has another structure", remedy: "--resume" });
    expect(text()).toContain("rewind refused: the model has another structure – --resume");
    await click("Delete");
    await click("No");
    await click("Delete");
    await click("Delete it");
    expect(commands()).toEqual([{ name: "rewind", args: { checkpoint: "new" } }, { name: "drop", args: { checkpoint: "new" } }]);
  });

  it("makes one, with a name or without, and changes when they are made", async () => {
    await page({ keep: { every: 100, on_pause: false, memory: 1e9 } }, "Checkpoints");
    await click("Checkpoint now");
    await answered({});
    const name = field("Keep the state");
    await type(name, "a b");
    await click("Checkpoint now");
    expect(text()).toContain("letters, digits");
    await type(name, "a-b");
    await click("Checkpoint now");
    const every = field("every");
    await type(every, "1k");
    await acted(() => { every.form?.requestSubmit(); });
    expect(commands()).toEqual([{ name: "checkpoint", args: {} }, { name: "checkpoint", args: { name: "a-b" } }, { name: "keep", args: { every: 1000 } }]);
  });
});

describe("Trial", () => {
  it("is asked for, shows how far it is, and ends with a choice", async () => {
    await page({ groups: [group(0, 0.1)] }, "Trial");
    await type(labelled("Its new value"), "x");
    await click("Try it");
    expect(text()).toContain("lr: “x” is no number");
    await type(labelled("Its new value"), "0.01");
    await click("Try it");
    const trial = { steps: 4, change: "lr 0.1 -> 0.01", start: 12 };
    await told({ trial: { ...trial, phase: "with", without: [1, 2, 3, 4], changed: [1, 1] } });
    expect(text()).toContain("with the change: 2 of 4");
    await answered({});
    await told({ trial: { ...trial, phase: "choose", without: [1, 2, 3, 4], changed: [1, 1, 1, 1], effect: -1.5, low: -3, high: 0, verdict: "lower" } });
    expect(text()).toMatch(/lower.*with minus without: -1\.500 on average/s);
    expect([...root.querySelectorAll(".plotted path")].every((path) => !/NaN/.test(path.getAttribute("d") ?? ""))).toBe(true);
    await click("Neither");
    expect(commands()).toEqual([{ name: "trial", args: { steps: 50, name: "set", args: { name: "lr", value: 0.01 } } }, { name: "choose", args: { keep: "neither" } }]);
  });
});

describe("Watchdogs", () => {
  const watch = { alarm: "loss-spike", text: "a loss far above", cost: "free", action: "log" as const, parameters: { z: 8, window: 200 }, found: 1 };

  it("change what they do, and their parameters; what they found is marked on the chart", async () => {
    await page({ watches: [watch], findings: [{ alarm: "a", step: 3, time: 1, text: "first" }, { alarm: "b", step: 9, time: 2, text: "second", flight: "f-9" }] }, "Watchdogs");
    const select = labelled("What loss-spike does") as unknown as HTMLSelectElement;
    await choose(select, "pause");
    expect([select.value, select.disabled]).toEqual(["pause", true]);
    await answered({ status: "refused", reason: "not now" });
    expect(select.value).toBe("log"); // as it is
    expect(text(".said.wrong")).toContain("watch refused: not now");
    const z = [...root.querySelectorAll("#tab .cell input")][0];
    if (!(z instanceof HTMLInputElement)) throw new Error("no parameter");
    await type(z, "6");
    await press(z, "Enter");
    expect(commands()).toEqual([
      { name: "watch", args: { alarm: "loss-spike", action: "pause" } }, { name: "watch", args: { alarm: "loss-spike", action: "log", parameters: { z: 6, window: 200 } } },
    ]);
    expect([...root.querySelectorAll("[aria-label=Findings] tbody tr")].map(({ textContent }) => textContent)).toEqual([expect.stringMatching(/9bsecondf-9$/), expect.stringMatching(/3afirst–$/)]);
    await click("9");
    expect(model.pointed).toBe(9);
  });

  it("look for the first operation that is not finite at a pause only", async () => {
    await page({ watches: [watch] }, "Watchdogs");
    expect(button("Find the first operation that is not finite").disabled).toBe(true);
    await page({ watches: [watch] }, "Watchdogs", { state: "paused" });
    await click("Find the first operation that is not finite");
    await answered({ result: { module: "encoder.0", operation: "log", "<b>": 3 } });
    expect(text()).toMatch(/moduleencoder\.0.*operationlog.*<b>3/s);
    expect(root.querySelector("#tab dl b")).toBeNull();
  });
});

describe("Journal", () => {
  it("says what was changed, when and by whom, and what to do with it", async () => {
    ({ hub, model } = shown({ controls: {}, journal: 1 }));
    const change = { time: 1, run: "baseline", epoch: 0, backward: 5, point: 5, name: "set", args: { name: "lr", value: 0.01 }, before: { "0/0": 0.1 }, after: { "0/0": 0.01 } };
    hub.answers.set("/journal", { session: "k3f9q2ma", entries: [{ ...change, step: 5, by: "<i>ana" }, { ...change, step: 6, by: "" }] });
    await acted(() => { render(<App model={model} />, root); });
    await acted(() => { model.event({ type: "session", session: session({ controls: {}, journal: 2 }) }); });
    expect(text("#tab-Journal")).toBe("Journal 2");
    await acted(() => { one("#tab-Journal").click(); });
    expect([...root.querySelectorAll("#tab tbody tr")].map(({ textContent }) => textContent)).toEqual([expect.stringMatching(/60lr 0\.1 → 0\.01–$/), expect.stringMatching(/50lr 0\.1 → 0\.01<i>ana$/)]);
    await click("5");
    expect(model.pointed).toBe(5);
  });
});

describe("the worst samples", () => {
  async function listed(changes: Partial<Session> = {}): Promise<void> {
    await page({ subset: { mode: "exclude", count: 1, loader: "loader0", since: 0 } }, "", changes);
    await acted(() => { Object.assign(model.samples, { histogram: histogram(), loaded: true, recorded: [7, 8, 9].map((sample) => recorded({ sample, position: sample })).concat(recorded({ sample: 40, identity: "stream" })) }); model.choose("loss"); });
  }

  it("are chosen by boxes and keys, and left out, drawn alone or weighed", async () => {
    await listed();
    expect(button("Exclude from training").disabled).toBe(true);
    const table = one("[aria-label='Worst samples'] table");
    await press(table, "x");
    await press(table, "ArrowDown", { shiftKey: true });
    expect(text(".chosen-samples")).toContain("2 samples chosen");
    await click("Exclude from training");
    await answered({});
    await acted(() => { labelled("Choose sample 9").click(); });
    await click("Train only on these");
    await answered({ status: "refused", reason: "the loader has a sampler of its own" });
    expect(text(".chosen-samples .wrong")).toContain("the loader has a sampler of its own");
    await click("Weight…");
    await type(labelled("How often each is taken, on average"), "0.5");
    await click("Weigh");
    expect(commands().map(({ args }) => args)).toEqual([
      { mode: "exclude", samples: [7, 8], add: true }, { mode: "include", samples: [7, 8, 9] }, { mode: "weights", samples: [7, 8, 9], weights: [0.5] },
    ]);
    expect(labelled("No index").disabled).toBe(true); // of a stream
  });

  it("cannot be chosen where nothing can be done to them", async () => {
    await listed({ state: "ended" });
    expect(root.querySelector("[aria-label='Worst samples'] input, .chosen-samples")).toBeNull();
  });
});
