import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import table from "../../../onthefly/merging/table.py?raw";
import { fork, FORK, merge, MERGE, STRATEGIES } from "../src/forking";
import { beside, facts, layout, lineage, NODE_HEIGHT, NODE_WIDTH, unfit } from "../src/lineage";
import type { Model } from "../src/model";
import { Bar } from "../src/parts/Bar";
import { ForkOn } from "../src/parts/runs/ForkOn";
import { RunDialogs } from "../src/parts/runs/Dialogs";
import { Runs } from "../src/parts/runs/Runs";
import type { Branch, Comparison, Controls, ParameterGroup, Series as Table, Session } from "../src/protocol";
import { columns, type FakeHub, session, shown } from "./fake";

let root: HTMLElement;

beforeEach(() => {
  root = document.createElement("div");
  document.body.replaceChildren(root);
});
afterEach(() => { render(null, root); });

const branch = (run: string, parent: string, changes: Partial<Branch> = {}): Branch => ({ run, parent, step: 10, kind: "fork", ...changes });
const merged = branch("merge1", "fork1", { kind: "merge", parents: ["baseline", "fork1"], strategy: "fisher" });
const controls: Controls = {
  runs: [{ run: "baseline", current: false, step: 12, back: true }, { run: "fork1", current: true, step: 20 }, { run: "fork2", current: false, step: 14, back: false, reason: "its checkpoint was deleted" }],
};
const several: Partial<Session> = { run: "fork1", state: "paused", step: 20, controls, branches: [branch("fork1", "baseline", { selection: "worst=9", samples: 9, changes: { lr: 0.01 }, budget: "10 steps", trained: 10 }), branch("fork2", "baseline"), merged] };
const settled = () => act(async () => { await new Promise((resolve) => { setTimeout(resolve, 0); }); });
const commands = (hub: FakeHub) => hub.sent.flatMap((message) => (message.type === "command" ? [{ name: message.name, args: message.args }] : []));
const button = (name: string) => [...root.querySelectorAll("button")].find(({ textContent }) => textContent === name);

describe("lineage", () => {
  it("knows each run once, by its branch, its state or its records, and what it began from", () => {
    const nodes = lineage(session(several), [{ name: "baseline", parents: [], started: 0, backwards: 12, samples: 0, first_step: 0, last_step: 11 }]);
    expect(nodes.map(({ run }) => run).sort()).toEqual(["baseline", "fork1", "fork2", "merge1"]);
    const of = (run: string) => nodes.find((node) => node.run === run);
    expect(of("merge1")?.parents).toEqual(["baseline", "fork1"]);
    expect(of("baseline")).toMatchObject({ parents: [], step: 12, held: true, reason: "" });
    expect(of("fork1")).toMatchObject({ current: true, step: 20, kind: "fork" });
    expect(of("fork2")?.reason).toBe("its checkpoint was deleted");
    expect(of("merge1")?.reason).toContain("holds no state");
  });

  it("says why no run can be switched to, or why these cannot be merged", () => {
    const [running, ended] = [session({ ...several, state: "running" }), session({ ...several, state: "ended" })];
    const nodes = lineage(running, []);
    expect(nodes.find(({ run }) => run === "baseline")?.reason).toBe("pause the script first");
    expect(lineage(ended, []).every(({ run, reason }) => run === "fork1" || reason === "the script has ended")).toBe(true);
    const two = nodes.filter(({ run }) => ["baseline", "fork1"].includes(run));
    expect(unfit(running, two)).toBe("pause the script first");
    expect(unfit(session(several), lineage(session(several), []).filter(({ run }) => ["baseline", "fork1"].includes(run)))).toBe("");
    expect(unfit(session(several), nodes)).toContain("no state of merge1");
    expect(unfit(session(several), two.slice(0, 1))).toBe("choose two runs or more");
  });

  it("tells how a run came to be", () => {
    const node = lineage(session(several), []).find(({ run }) => run === "fork1");
    expect(node && Object.fromEntries(facts(node))).toMatchObject({ "began from": "baseline, step 10", "trained on": "worst=9: 9 samples", with: "lr 0.01000", for: "10 steps", did: "10 steps" });
  });

  it("is laid out with every box apart, within its size, and a line from each parent", () => {
    const nodes = Array.from({ length: 40 }, (_, at) => ({ run: `r${at}`, parents: at ? [`r${Math.floor((at - 1) / 3)}`, ...(at % 9 === 8 ? [`r${at - 7}`] : [])] : [] }));
    const { places, edges, width, height } = layout(nodes);
    expect(edges).toHaveLength(new Set(nodes.flatMap(({ run, parents }) => parents.map((parent) => `${parent} ${run}`))).size);
    const spots = [...places.values()];
    for (const [at, a] of spots.entries()) {
      expect(a.x >= NODE_WIDTH / 2 && a.x + NODE_WIDTH / 2 <= width && a.y >= NODE_HEIGHT / 2 && a.y + NODE_HEIGHT / 2 <= height).toBe(true);
      for (const b of spots.slice(0, at)) expect(Math.abs(a.x - b.x) >= NODE_WIDTH || Math.abs(a.y - b.y) >= NODE_HEIGHT).toBe(true);
    }
    const numbers = edges.flatMap(({ path }) => path.slice(1).split(/[QL ]/).map(Number));
    expect(numbers.length > 0 && numbers.every((number) => number >= 0 && number <= Math.max(width, height))).toBe(true);
  });

  it("is walked to the nearest box on a side, and stays where there is none", () => {
    const laid = layout([{ run: "a", parents: [] }, { run: "b", parents: ["a"] }, { run: "c", parents: ["a"] }]);
    expect(beside(laid, "a", "ArrowLeft")).toBe("a");
    expect(["b", "c"]).toContain(beside(laid, "a", "ArrowRight"));
    expect(new Set([beside(laid, "b", "ArrowDown"), beside(laid, "b", "ArrowUp")])).toEqual(new Set(["b", "c"]));
  });
});

describe("a form", () => {
  const groups: ParameterGroup[] = [{ optimizer: 0, kind: "AdamW", group: 0, parameters: 1, values: { lr: 0.001, betas: [0.9, 0.999] } }];

  it("of a fork is a command with what was typed, and nothing else", () => {
    expect(fork(FORK, groups).command).toEqual({ name: "fork", args: {} });
    expect(fork({ ...FORK, name: "hard", select: " worst=9 ", steps: "1k", minutes: "2.5", settings: { lr: "1e-4", betas: "0.8, 0.9" }, seed: "7", optimizer: "0" }, groups).command?.args).toEqual({
      name: "hard", select: "worst=9", steps: 1000, minutes: 2.5, settings: { lr: 1e-4, betas: [0.8, 0.9] }, seed: 7, optimizer: 0,
    });
  });

  it("of a fork names samples by their index where nothing but a list was given", () => {
    const args = (select: string) => fork({ ...FORK, select }, groups).command?.args;
    expect(args("sample=7,3:5,4")).toEqual({ samples: [3, 4, 5, 7] });
    for (const words of ["sample=3:5 class=1", "!sample=3", "sample=3:", "sample=0:4000"]) expect(args(words)).toEqual({ select: words });
  });

  it("of a fork says which field is wrong", () => {
    const field = (change: Partial<typeof FORK>) => fork({ ...FORK, ...change }, groups).fault && (fork({ ...FORK, ...change }, groups) as { field: string }).field;
    expect([{ steps: "0" }, { epochs: "-1" }, { minutes: "soon" }, { name: "a b" }, { seed: "1.5" }, { settings: { lr: "0,1" } }, { settings: { betas: "0.9" } }].map(field)).toEqual(["steps", "epochs", "minutes", "name", "seed", "lr", "betas"]);
  });

  it("of a merge has the strategies that the script has, in its words", () => {
    const rows = [...table.matchAll(/Strategy\(\s*"(\w+)",\s*"([^"]+)"/g)].map(([, name, says]) => [name, says]);
    expect(rows.length).toBeGreaterThan(5);
    expect(STRATEGIES.map(({ name, says }) => [name, says])).toEqual(rows);
  });

  it("of a merge takes weights where they mean something, each of its own run", () => {
    const runs = ["a", "b"];
    expect(merge({ ...MERGE, weights: { a: "1", b: "2" } }, runs).command?.args).toEqual({ strategy: "uniform", runs });
    expect(merge({ ...MERGE, strategy: "weighted", weights: { b: "2", a: "1" }, force: true, optimizer: "keep" }, runs).command?.args).toEqual({ strategy: "weighted", runs, weights: [1, 2], optimizer: "keep", force: true });
    expect(merge({ ...MERGE, strategy: "fisher" }, runs).command?.args).toEqual({ strategy: "fisher", runs });
    expect(merge({ ...MERGE, strategy: "weighted" }, runs)).toMatchObject({ field: "weight of a" });
    expect(merge({ ...MERGE, strategy: "weighted", weights: { a: "0", b: "0" } }, runs).fault).toBe("not all 0");
    expect(merge({ ...MERGE, strategy: "fisher", weights: { a: "1" } }, runs)).toMatchObject({ field: "weight of b" });
    expect(merge({ ...MERGE, strategy: "slerp" }, ["a", "b", "c"]).fault).toContain("2 runs, not 3");
    expect(merge({ ...MERGE, strategy: "ties", parameters: { density: "2" } }, runs)).toMatchObject({ field: "density", fault: "density: from 0 to 1" });
    expect(merge({ ...MERGE, strategy: "ties", parameters: { density: "0.3" }, seed: "4" }, runs).command?.args).toEqual({ strategy: "ties", runs, parameters: { density: 0.3 } });
  });
});

describe("the run that is looked at", () => {
  const known = (hub: FakeHub) => {
    hub.answer = (path) => {
      if (!path.includes("/metrics?")) throw new Error("no such answer");
      const name = new URLSearchParams(path.split("?")[1]).get("name") ?? "";
      const answer: Table = { session: "k3f9q2ma", run: "baseline", name, cursor: "0", bucketed: false, step: [0, 1, 2], epoch: [0, 0, 0], time: [0, 1, 2], value: [3, "nan", 1], low: [], high: [] };
      return answer;
    };
  };
  const live = (run: string, value: number[]) => { const found = columns({ step: value.map((_, step) => step), value }); return { ...found, header: { ...found.header, run } }; };

  it("is the current one, until another is picked, whose curves are asked for; then nothing of the current one mixes in", async () => {
    const { hub, model } = shown(several);
    known(hub);
    model.columns(live("fork1", [5, 4]));
    model.look("baseline");
    await settled();
    expect(model.curve("loss").value).toEqual([3, NaN, 1]);
    expect(hub.asked.some((path) => path.includes("metrics?name=loss&run=baseline"))).toBe(true);
    model.columns(live("fork1", [9, 9, 9, 9]));
    expect(model.curve("loss").length).toBe(3);
    expect(model.viewed?.run).toBe("baseline");
    expect(model.session?.run).toBe("fork1");
    expect(hub.asked.filter((path) => path.includes("/histogram")).at(-1)).toContain("run=baseline");
  });

  it("stays when the script goes on with another, and is given up by follow", async () => {
    const { hub, model } = shown(several);
    known(hub);
    model.look("baseline");
    await settled();
    model.event({ type: "snapshot", session: session({ ...several, run: "fork2" }), sessions: [], cursor: "0" });
    expect([model.picked, model.viewed?.run]).toEqual(["baseline", "baseline"]);
    await act(() => { render(<Bar model={model} onHelp={() => undefined} onSessions={() => undefined} />, root); });
    await act(() => { button("follow fork2")?.click(); });
    expect([model.picked, model.viewed?.run, model.curve("loss").length]).toEqual(["", "fork2", 0]);
    expect(hub.sent.at(-1)?.type).toBe("subscribe");
    model.columns(live("fork2", [2]));
    model.event({ type: "snapshot", session: session({ ...several, run: "fork1" }), sessions: [], cursor: "0" });
    expect(model.viewed?.run).toBe("fork1");
  });

  it("takes what comes by itself once the picked run is the current one", async () => {
    const { hub, model } = shown(several);
    known(hub);
    model.look("baseline");
    await settled();
    model.event({ type: "snapshot", session: session({ ...several, run: "baseline" }), sessions: [], cursor: "0" });
    model.columns(live("baseline", [3, 2, 1, 0]));
    expect(model.curve("loss").length).toBe(4);
  });

  it("has the loss of its own curve, not the newest one of all, where the curve tells it exactly", () => {
    const { model } = shown({ ...several, loss: 0.5 });
    expect(model.loss()).toBe(0.5);
    model.columns(live("fork1", [3, 2])); // it was switched to: the newest loss of the session is another run's
    expect(model.loss()).toBe(2);
    model.columns({ ...live("fork1", [3, 2]), arrays: new Map(Object.entries({ step: [0, 9], value: [3, 2], low: [1, 1], high: [4, 4] }).map(([name, values]) => [name, Float64Array.from(values)])) });
    expect(model.loss()).toBe(0.5); // a mean is none that it had
    model.look("baseline");
    expect(model.loss()).toBeNull();
  });

  it("is forgotten with its session", () => {
    const { model } = shown(several);
    model.look("baseline");
    model.event({ type: "snapshot", session: session({ ...several, id: "zzzzzzzz" }), sessions: [], cursor: "0" });
    expect(model.picked).toBe("");
  });
});

describe("Runs", () => {
  const draw = (model: Model) => act(() => { render(<><Runs model={model} session={model.viewed ?? session()} />{model.session && <RunDialogs model={model} session={model.session} />}</>, root); });
  const comparison: Comparison = {
    session: "k3f9q2ma", loader: "loader1", runs: [{ run: "baseline", evaluation: "test_1", step: 12 }, { run: "fork1", evaluation: "test_2", step: 20 }], verdict: "fork1 is better on all.",
    parts: [{ name: "all", count: 5, runs: [{ loss: 1, accuracy: 0.5 }, { loss: 0.5, accuracy: 0.75, difference: -0.5, low: -0.75, high: -0.25, wins: 4, losses: 1 }] }, { name: "class 3", count: 0, runs: [{ loss: null }, { loss: null }] }],
  };

  it("says what a fork is where there is one run, and that an ended script has none", async () => {
    const { model } = shown({ controls: {}, state: "running" });
    await draw(model);
    expect(root.textContent).toContain("A fork is a run of its own");
    expect(button("Fork…")?.disabled).toBe(true);
    const ended = shown({ state: "ended", controls: {} });
    await draw(ended.model);
    expect(root.textContent).toContain("The script has ended");
  });

  it("switches to the one that is looked at, or says why not", async () => {
    const { hub, model } = shown(several);
    model.runs.look("fork2");
    await draw(model);
    expect(button("Switch to it")?.disabled).toBe(true);
    expect(root.textContent).toContain("No switch: its checkpoint was deleted.");
    model.runs.look("baseline");
    await draw(model);
    button("Switch to it")?.click();
    expect(commands(hub)).toEqual([{ name: "switch", args: { run: "baseline" } }]);
  });

  it("compares the chosen, in the order in which they were chosen, and keeps the table until there is another", async () => {
    const { hub, model } = shown(several);
    for (const run of ["baseline", "fork1"]) model.runs.choose(run, true);
    model.runs.say({ select: "class=3" });
    await draw(model);
    await act(() => { button("Compare")?.click(); });
    expect(commands(hub)).toEqual([{ name: "compare", args: { runs: ["baseline", "fork1"] } }]);
    hub.answers.set("/comparison?runs=baseline%2Cfork1&loader=loader1&select=class%3D3", comparison);
    const sent = hub.sent.at(-1);
    model.event({ type: "answer", session: "k3f9q2ma", answer: { id: sent?.type === "command" ? sent.id : "", n: 1, status: "applied", result: { loader: "loader1" } } });
    await settled();
    await draw(model);
    expect(root.querySelector(".result h3")?.textContent).toBe("fork1 is better on all.");
    expect(root.querySelector(".effect.better")?.textContent).toContain("−0.5");
    expect(root.querySelectorAll(".interval")).toHaveLength(1);
    await model.runs.compare({ runs: ["baseline", "fork2"], loader: "", select: "" }); // no such answer
    await draw(model);
    expect(root.textContent).toContain("The hub did not answer");
    expect(root.querySelector(".result h3")?.textContent).toBe("fork1 is better on all.");
  });

  it("waits for tests that are made later, and leaves what is shown alone when there are others", async () => {
    const { hub, model } = shown({ ...several, controls: { ...controls, evaluations: 1 } });
    for (const run of ["baseline", "fork1"]) model.runs.choose(run, true);
    await draw(model);
    await act(() => { button("Compare")?.click(); });
    const sent = hub.sent.at(-1);
    hub.answers.set("/comparison", comparison);
    model.event({ type: "answer", session: "k3f9q2ma", answer: { id: sent?.type === "command" ? sent.id : "", n: 1, status: "applied", result: { waits: true } } });
    const tested = async (evaluations: number) => {
      model.event({ type: "session", session: session({ ...several, controls: { ...controls, evaluations } }) });
      await settled();
      return hub.asked.filter((path) => path.includes("/comparison")).length;
    };
    expect([await tested(2), await tested(3), await tested(4)]).toEqual([0, 1, 1]);
    expect(model.runs.comparison?.verdict).toBe("fork1 is better on all.");
  });

  it("keeps a card open that was refused, with what was typed, and closes one that has begun", async () => {
    const { hub, model } = shown(several);
    model.runs.fork({ select: "worst=9" });
    await draw(model);
    const submit = () => act(() => { root.querySelector("dialog form")?.dispatchEvent(new Event("submit", { bubbles: true, cancelable: true })); });
    await submit();
    expect(commands(hub)).toEqual([{ name: "fork", args: { select: "worst=9" } }]);
    const answer = (status: "refused" | "accepted") => {
      const sent = hub.sent.at(-1);
      model.event({ type: "answer", session: "k3f9q2ma", answer: { id: sent?.type === "command" ? sent.id : "", n: 1, status, reason: "no sample is meant", remedy: "a wider selection" } });
    };
    answer("refused");
    await draw(model);
    expect(root.querySelector("dialog .wrong")?.textContent).toContain("no sample is meant – a wider selection");
    expect([...root.querySelectorAll<HTMLInputElement>("dialog input")].some(({ value }) => value === "worst=9")).toBe(true);
    await submit();
    answer("accepted");
    await draw(model);
    expect(root.querySelector("dialog")).not.toBeNull(); // the script has not begun with it
    model.event({ type: "session", session: session({ ...several, controls: { ...controls, progress: { what: "fork3", done: 1, of: 9 } } }) });
    await draw(model);
    await draw(model);
    expect(model.runs.forking).toBeNull();
    expect(model.tab).toBe("Runs");
    expect(root.textContent).toContain("fork3: 1 of 9");
  });
});

describe("a fork on a selection", () => {
  const row = (sample: number | null, changes: object = {}) => ({ sample, key: null, identity: "index", loader: "loader0", loss: 1, ...changes });
  const selected = (rows: object[], count = rows.length) => ({ session: "k3f9q2ma", run: "fork1", phase: "train", evaluation: "", epoch: 1, select: "loss=2:", count, says: "", rows });

  it("takes the words where they mean the same there, else the samples by their names", async () => {
    const { hub, model } = shown(several);
    expect(await model.runs.forkOn({ select: "worst=9", phase: "train" }, "fork1")).toBe("");
    expect(model.runs.forking).toMatchObject({ select: "worst=9", loader: "" });
    expect(hub.changes).toEqual([]);
    hub.change = () => selected([row(9), row(3), row(4)]);
    expect(await model.runs.forkOn({ select: "loss=2:", phase: "train", epoch: 1 }, "fork1")).toBe("");
    expect(model.runs.forking).toEqual({ select: "sample=3:4,9", loader: "loader0", checkpoint: "", says: "loss=2: (train, epoch 1), 3 samples" });
    expect(await model.runs.forkOn({ select: "worst=3", phase: "train" }, "baseline")).toBe(""); // of a run that is only looked at
    expect(hub.changes.at(-1)?.[2]).toEqual({ select: "worst=3", phase: "train", run: "baseline", limit: 4000 });
  });

  it("never trains on others than were meant: it says why there is no fork", async () => {
    const { hub, model } = shown(several);
    const asked = async (rows: object[], count?: number) => { hub.change = () => selected(rows, count); return model.runs.forkOn({ phase: "scan", select: "" }, "fork1"); };
    expect(await asked([])).toBe("No sample is selected.");
    expect(await asked([row(1), row(2, { identity: "stream" }), row(null)])).toContain("Of 2 of these samples the index is not known");
    expect(await asked([row(1), row(2, { loader: "loader1" })])).toContain("several loaders (loader0, loader1)");
    expect(await asked([row(1)], 4001)).toContain("put a tag on them");
    expect(model.runs.forking).toBeNull();
  });

  it("is offered where samples are selected, of a script that lives", async () => {
    const { model } = shown(several);
    await act(() => { render(<ForkOn model={model} request={{ select: "class=3", phase: "train" }} />, root); });
    await act(() => { button("Fork on these")?.click(); });
    expect(model.runs.forking?.select).toBe("class=3");
    const ended = shown({ ...several, state: "ended" });
    await act(() => { render(<ForkOn model={ended.model} request={null} />, root); });
    expect(root.textContent).toBe("");
  });
});
