import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Model } from "../src/model";
import { App } from "../src/parts/App";
import { columns, histogram, session, shown } from "./fake";

vi.mock("../src/parts/Chart", () => ({ Chart: () => null })); // needs a canvas; the end-to-end test looks at it

let root: HTMLElement;

beforeEach(() => {
  root = document.createElement("div");
  document.body.replaceChildren(root);
});
afterEach(() => { render(null, root); });

async function draw(model: Model): Promise<string> {
  await act(() => { render(<App model={model} />, root); });
  return root.textContent;
}

function key(name: string, target: Element = document.body): void {
  target.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));
}

describe("App", () => {
  it("shows state, step, cost and a pause button while a script runs", async () => {
    const text = await draw(shown().model);
    for (const part of ["running", "step 12", "Pause", "cost ≥ 20 µs · 1.0 %"]) expect(text).toContain(part);
  });

  it("offers to resume when paused, and nothing when the script has ended", async () => {
    expect(await draw(shown({ state: "paused", by: "ana (ctl)" }).model)).toMatch(/paused.*by ana.*Resume/s);
    expect(await draw(shown({ state: "ended" }).model)).not.toContain("Pause");
  });

  it("says what to type when there is no session, and when it is not logged in", async () => {
    const { model } = shown();
    model.connected("denied");
    expect(await draw(model)).toMatch(/step 12.*was restarted/s);
    model.session = null;
    expect(await draw(model)).toContain("This page is not logged in");
    model.connected("open");
    expect(await draw(model)).toContain("python -m onthefly train.py");
  });

  it("keeps what it shows when the hub is gone, and says since when", async () => {
    const { model } = shown();
    model.connected("lost");
    const text = await draw(model);
    expect(text).toContain("does not answer since");
    expect(text).toContain("step 12");
    expect(root.querySelector(".page.stale")).not.toBeNull();
  });

  it("pauses on space, but not while a control has the focus", async () => {
    const { hub, model } = shown();
    await draw(model);
    const sent = hub.sent.length;
    for (const control of root.querySelectorAll("select, input, button")) key(" ", control);
    expect(hub.sent).toHaveLength(sent);
    key(" ");
    expect(hub.sent[sent]).toMatchObject({ name: "pause" });
  });

  it("shows refusals with their reason", async () => {
    const { hub, model } = shown();
    model.toggle();
    const sent = hub.sent[1];
    if (sent?.type !== "command") throw new Error("no command");
    model.event({ type: "answer", session: "k3f9q2ma", answer: { id: sent.id, n: 0, status: "refused", reason: "2 ranks" } });
    expect(await draw(model)).toMatch(/pause refused: 2 ranks/);
  });

  it("shows names as text, whatever they hold", async () => {
    await draw(shown({ name: "<img src=x onerror=alert(1)>" }).model);
    expect(root.querySelector("img")).toBeNull();
    expect(root.textContent).toContain("<img src=x");
  });

  it("says what was not captured and why", async () => {
    const { model } = shown({ notices: [{ text: "samples have no index: copied", remedy: "", time: 0, rank: 0 }] });
    model.samples.histogram = histogram({ count: 0, counts: [0, 0], lost: [{ reason: "the loss ends in SumBackward0", backwards: 3 }] });
    const text = await draw(model);
    expect(text).toContain("Not captured: the loss ends in SumBackward0");
    expect(text).toContain("samples have no index");
  });

  it("has a heading while a session is shown", async () => {
    await draw(shown({ project: "birds" }).model);
    expect(root.querySelector("h1")?.textContent).toContain("birds / digits.py / baseline");
  });

  it("says since when records could not be saved, and why", async () => {
    expect(await draw(shown().model)).not.toContain("not saved");
    const text = await draw(shown({ unsaved_since: 1000, unsaved_reason: "no space left on device" }).model);
    expect(text).toMatch(/not saved since \d\d:\d\d:\d\d: no space left on device/);
    expect(root.querySelector<HTMLElement>(".badge")?.title).toContain("wait in memory");
  });

  it("lets a held script end instead of resuming it", async () => {
    const { hub, model } = shown({ state: "paused", reason: "the script has finished; it is held" });
    const text = await draw(model);
    expect(text).toContain("Let it end");
    expect(text).not.toMatch(/Resume|Stop/);
    key(" ");
    expect(hub.sent.pop()).toMatchObject({ name: "resume" });
  });

  it("says what to do where nothing was captured, once", async () => {
    const { model } = shown({ notices: [{ text: "per-sample losses are not captured: the loss is reduced twice", remedy: "", time: 0, rank: 0 }] });
    model.samples.histogram = histogram({ count: 0, counts: [0, 0], lost: [{ reason: "the loss is reduced twice", backwards: 3 }] });
    const text = await draw(model);
    expect(text).toContain("Reduce it once");
    expect(text.split("reduced twice")).toHaveLength(2); // one place: the notice says the same
  });
});

describe("ChartCard", () => {
  it("offers the metrics that have values, and shows the chosen one", async () => {
    const { hub, model } = shown({ metrics: ["loss", "lr", "grad_norm"] });
    await draw(model);
    const select = root.querySelector("select");
    expect([...(select?.options ?? [])].map(({ value }) => value)).toEqual(["loss", "lr", "grad_norm"]);
    await act(() => {
      if (select) select.value = "grad_norm";
      select?.dispatchEvent(new Event("change", { bubbles: true }));
    });
    expect(hub.sent.pop()).toMatchObject({ metrics: expect.arrayContaining(["loss", "grad_norm"]) as unknown });
    expect(await draw(model)).toContain("Waiting for the values of grad_norm");
  });

  it("goes back to the loss with a session that has no such metric", async () => {
    const { model } = shown({ metrics: ["loss", "grad_norm"] });
    model.choose("grad_norm");
    model.event({ type: "snapshot", session: session({ id: "zzzzzzzz", metrics: ["loss"] }), sessions: [], cursor: "0" });
    expect(await draw(model)).toContain("No loss yet");
  });

  it("says that a curve holds the values of several ranks", async () => {
    const { model } = shown({ world_size: 4 });
    model.columns(columns({ step: [0, 0], value: [1, 2] }));
    expect(await draw(model)).toContain("The values of all 4 ranks");
  });

  it("says what the curve hides: buckets, what is no number, what a logarithmic axis cannot show", async () => {
    const { model } = shown();
    model.columns(columns({ step: [0, 100, 200], epoch: [0, 0, 0], value: [1, NaN, 1], low: [0, NaN, 1], high: [2, NaN, 2] }));
    let text = await draw(model);
    expect(text).toContain("Each point is the mean of about 100 steps");
    expect(text).toContain("1 value is NaN or infinite, first at step 100");
    const button = (name: string) => [...root.querySelectorAll<HTMLElement>("section[aria-label=loss] button")].find(({ textContent }) => textContent === name);
    await act(() => { button("log")?.click(); });
    await act(() => { button("epoch")?.click(); });
    text = root.textContent;
    expect(text).toContain("1 point holds values at or below 0");
    expect(text).toContain("The length of an epoch is known once one is over");
  });

  it("shows a learning rate as it is, not the mean of what it was", async () => {
    const { model } = shown();
    model.columns(columns({ step: [0, 1, 2], value: [0.1, 0.1, 0.01] }, true, "lr"));
    await draw(model);
    expect(root.querySelector(".tile b")?.textContent).toBe("0.01");
  });

  it("opens a tile's curve, and goes back on the second click", async () => {
    const { model } = shown();
    model.columns(columns({ step: [0], value: [0.1] }, true, "lr"));
    await draw(model);
    await act(() => { root.querySelector<HTMLElement>(".tile")?.click(); });
    expect(model.metric).toBe("lr");
    await draw(model);
    await act(() => { root.querySelector<HTMLElement>(".tile")?.click(); });
    expect(model.metric).toBe("loss");
  });

  it("saves the values that the hub has, and says when they are buckets", async () => {
    const { hub, model } = shown();
    hub.answers.set("metrics?name=loss&run=baseline&points=20000", {
      session: "k3f9q2ma", run: "baseline", name: "loss", cursor: "1", bucketed: true, step: [0], epoch: [0], time: [0], value: [1], low: [0], high: [2],
    });
    model.columns(columns({ step: [0], value: [1] }));
    await draw(model);
    await act(async () => {
      [...root.querySelectorAll("button")].find(({ textContent }) => textContent === "CSV")?.click();
      await new Promise((resume) => setTimeout(resume));
    });
    expect(hub.saved).toEqual(["k3f9q2ma-loss.csv"]);
    expect(root.textContent).toContain("1 row saved, each the mean of several values");
  });
});
