import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Model } from "../src/model";
import { App } from "../src/parts/App";
import { histogram, shown } from "./fake";

vi.mock("../src/parts/LossCard", () => ({ LossCard: () => null })); // needs a canvas; the end-to-end test looks at it

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
    const select = root.querySelector("select");
    if (select) key(" ", select);
    expect(hub.sent).toHaveLength(1);
    key(" ");
    expect(hub.sent[1]).toMatchObject({ name: "pause" });
  });

  it("shows refusals with their reason", async () => {
    const { hub, model } = shown();
    model.command("pause");
    const sent = hub.sent[1];
    if (sent?.type !== "command") throw new Error("no command");
    model.event({ type: "answer", session: "k3f9q2ma", answer: { id: sent.id, n: 0, status: "refused", reason: "2 ranks" } });
    expect(await draw(model)).toContain("refused: 2 ranks");
  });

  it("shows names as text, whatever they hold", async () => {
    await draw(shown({ name: "<img src=x onerror=alert(1)>" }).model);
    expect(root.querySelector("img")).toBeNull();
    expect(root.textContent).toContain("<img src=x");
  });

  it("says what was not captured and why", async () => {
    const { model } = shown({ notices: [{ text: "samples have no index: copied", remedy: "", time: 0, rank: 0 }] });
    model.histogram = histogram({ count: 0, counts: [0, 0], lost: [{ reason: "the loss ends in SumBackward0", backwards: 3 }] });
    const text = await draw(model);
    expect(text).toContain("Not captured: the loss ends in SumBackward0");
    expect(text).toContain("samples have no index");
  });

  it("walks the samples with the arrow keys", async () => {
    const { model } = shown();
    model.histogram = histogram();
    model.worst = [7, 8].map((sample) => ({
      sample, loss: 1, step: 1, position: sample, backward: 1, valid: 1, certificate: "exact", identity: "index",
    }));
    await draw(model);
    const table = root.querySelector("table");
    if (!table) throw new Error("no table");
    await act(() => { key("ArrowDown", table); });
    expect(root.querySelector(".detail")?.textContent).toContain("Sample 8 ");
  });
});
