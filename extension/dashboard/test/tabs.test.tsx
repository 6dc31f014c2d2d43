import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Model } from "../src/model";
import { App } from "../src/parts/App";
import { columns, entry, histogram, session, shown, status } from "./fake";
import type { Session } from "../src/protocol";

vi.mock("../src/parts/Chart", () => ({ Chart: () => null })); // needs a canvas; the end-to-end test looks at it

let root: HTMLElement;

beforeEach(() => {
  root = document.createElement("div");
  document.body.replaceChildren(root);
});
afterEach(() => { render(null, root); });

/** Answers have come, and what they changed is drawn: in the frame before ours. */
const settled = async () => {
  await new Promise((resume) => setTimeout(resume));
  await new Promise((resume) => requestAnimationFrame(resume));
};
/** Effects run when an act ends; what they ask for is answered in the next. */
const acted = async (action: () => void) => {
  await act(action);
  await act(settled);
};
const draw = (model: Model) => acted(() => { render(<App model={model} />, root); });
const tab = (name: string) => acted(() => { root.querySelector<HTMLElement>(`#tab-${name}`)?.click(); });
const panel = () => root.querySelector("#tab")?.textContent ?? "";

function withLog(entries: ReturnType<typeof entry>[], changes: Partial<Session> = {}) {
  const made = shown({ logs: entries.length, ...changes });
  made.hub.answers.set("/logs", { session: "k3f9q2ma", entries, cursor: "9", earlier: false });
  return made;
}

describe("Tabs", () => {
  it("walk with the arrow keys, and show a tab only where it has something", async () => {
    const { model } = shown({ backwards: 0, samples: 0, onthefly_us: null });
    await draw(model);
    expect([...root.querySelectorAll("[role=tab]")].map((name) => name.textContent)).toEqual(["Logs", "System"]);
    const list = root.querySelector("[role=tablist]");
    await act(() => { list?.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft", bubbles: true })); });
    expect(root.querySelector("[aria-selected=true][role=tab]")?.textContent).toBe("System");
    expect(document.activeElement?.id).toBe("tab-System");
  });
});

describe("Logs", () => {
  it("shows lines as text with their time, marks stderr, and names ranks only where there are several", async () => {
    const { model } = withLog([entry(0, "<b>epoch 3</b>\n"), entry(1, "warning\n", { stream: "stderr" })]);
    await draw(model);
    expect(panel()).toContain("<b>epoch 3</b>");
    expect(root.querySelector(".written .stderr")?.textContent).toContain("warning");
    expect(panel()).not.toContain("rank 0");
    const several = withLog([entry(0, "a\n"), entry(1, "b\n", { rank: 1 })]);
    await draw(several.model);
    expect(panel()).toMatch(/rank 0a.*rank 1b/s);
  });

  it("marks what was looked for", async () => {
    const { model } = withLog([entry(0, "Loss 3, loss 4\n")]);
    await draw(model);
    await acted(() => { model.logs.find("loss"); });
    expect([...root.querySelectorAll("mark")].map(({ textContent }) => textContent)).toEqual(["Loss", "loss"]);
  });

  it("offers to follow again once the reader has scrolled up", async () => {
    const { model } = withLog([entry(0, "a\n")]);
    await draw(model);
    expect(panel()).not.toContain("follow");
    model.logs.stay(false);
    model.event({ type: "session", session: session({ logs: 5 }) });
    await draw(model);
    expect(panel()).toContain("follow · 4 new");
    await acted(() => { [...root.querySelectorAll("button")].find(({ textContent }) => textContent.startsWith("follow"))?.click(); });
    expect(model.logs.following).toBe(true);
  });

  it("has a sentence for a script that has written nothing", async () => {
    await draw(shown().model);
    expect(panel()).toContain("The script has written nothing yet.");
  });
});

describe("System", () => {
  it("tells what runs where, and asks the hub only while it is open", async () => {
    const rank = { rank: 0, pid: 4711, node: "box", connected: true, step: 12 };
    const { hub, model } = shown({
      ranks: [{ ...rank, name: "", state: "running", trains: true }, { ...rank, rank: 1, pid: 4712, name: "launcher", state: "lost", connected: false, trains: false }],
      argv: ["digits.py", "--lr", "0.1"], versions: { torch: "2.13" },
    });
    hub.answers.set("hub", status());
    await draw(model);
    expect(hub.asked).not.toContain("hub");
    await tab("System");
    for (const part of ["4711", "the script", "lost, not connected", "trains nothing", "--lr 0.1", "torch 2.13", "2 sessions", "70.0 GB free"]) expect(panel()).toContain(part);
    const asked = hub.asked.length;
    await tab("Logs");
    expect(hub.asked.slice(asked)).toEqual([]);
    expect(hub.sent.pop()).not.toMatchObject({ metrics: expect.arrayContaining(["cpu"]) as unknown });
  });

  it("shows what is used once it was measured, and says so before", async () => {
    const { model } = shown();
    await draw(model);
    await tab("System");
    expect(panel()).toContain("there is nothing yet");
    model.columns(columns({ step: [1, 1], value: [50, 130] }, true, "cpu"));
    model.columns(columns({ step: [1, 1], value: [300, 2048] }, true, "rss"));
    await draw(model);
    expect(panel()).toMatch(/processor 130 %.*memory 2\.05 GB/s);
  });
});

describe("Overhead", () => {
  it("tells time, share, and that it is a lower bound; how values were captured and what was not", async () => {
    const { hub, model } = shown();
    hub.answers.set("hub", status());
    model.samples.histogram = histogram({
      count: 10, certificates: { exact: 8, none: 2 }, identities: { index: 10 },
      lost: [{ reason: "the loss ends in SumBackward0, which this version does not read", backwards: 3 }],
    });
    await draw(model);
    await tab("Overhead");
    for (const part of ["At least 20 µs of each step, 1.0 % of its 2 ms", "lower bound", "8 agree with the script's loss", "2 could not be compared", "10 have their index", "3 backward calls without", "torch.nn.functional"]) {
      expect(panel()).toContain(part);
    }
  });
});
