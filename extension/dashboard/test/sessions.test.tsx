import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Model } from "../src/model";
import { App } from "../src/parts/App";
import { matching } from "../src/parts/SessionList";
import { session, shown } from "./fake";

vi.mock("../src/parts/Chart", () => ({ Chart: () => null }));

let root: HTMLElement;

beforeEach(() => {
  root = document.createElement("div");
  document.body.replaceChildren(root);
});
afterEach(() => { render(null, root); });

const old = session({ id: "aaaaaaaa", name: "old.py", project: "birds", state: "ended", started: 100, ended: 190 });
const young = session({ started: 200 });
const options = () => [...root.querySelectorAll("[role=option]")].map(({ textContent }) => textContent);
const field = () => root.querySelector<HTMLInputElement>("dialog input[type=text]");
const draw = (model: Model) => act(() => { render(<App model={model} />, root); });
const press = (name: string, target: Element | null = document.body) =>
  act(() => { target?.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true })); });

async function opened() {
  const made = shown();
  made.model.event({ type: "snapshot", session: young, sessions: [old, young], cursor: "0" });
  await draw(made.model);
  await press("s");
  return made;
}

describe("SessionList", () => {
  it("lists the newest first, with its state, step, loss and duration", async () => {
    await opened();
    const [newest, first, second] = options();
    expect(newest).toContain("follows each one that starts");
    expect(first).toContain("digits.py");
    for (const part of ["old.py", "birds · aaaaaaaa", "ended", "step 12", "loss 0.5", "1 min 30 s"]) expect(second).toContain(part);
  });

  it("is walked by arrows, and Enter shows a session and closes it", async () => {
    const { hub } = await opened();
    await press("ArrowDown", field());
    await press("ArrowDown", field());
    await press("ArrowDown", field()); // there are no more
    await press("Enter", field());
    expect(hub.sent.pop()).toMatchObject({ type: "subscribe", session: "aaaaaaaa" });
    expect(root.querySelector("dialog")).toBeNull();
  });

  it("keeps to the chosen one while another starts", async () => {
    const { hub, model } = await opened();
    await press("ArrowDown", field());
    model.event({ type: "session", session: session({ id: "zzzzzzzz", started: 300 }) });
    await draw(model);
    expect(options()).toHaveLength(4);
    await press("Enter", field());
    expect(hub.sent.pop()).toMatchObject({ session: "k3f9q2ma" });
  });

  it("follows the newest again", async () => {
    const { hub, model } = await opened();
    model.follow("aaaaaaaa");
    await press("ArrowUp", field());
    await press("Enter", field());
    expect(hub.sent.pop()).toMatchObject({ session: "last" });
  });

  it("is narrowed by what is typed", async () => {
    const { hub } = await opened();
    const input = field();
    if (!input) throw new Error("no field");
    await act(() => {
      input.value = "BIRDS ended";
      input.dispatchEvent(new Event("input", { bubbles: true }));
    });
    expect(options()).toHaveLength(1);
    await press("Enter", input);
    expect(hub.sent.pop()).toMatchObject({ session: "aaaaaaaa" });
    expect(matching([old, young], "birds running")).toEqual([]);
  });

  it("keeps keys from the page below, and closes on Escape", async () => {
    const { hub } = await opened();
    const sent = hub.sent.length;
    await press(" ", root.querySelector("dialog"));
    expect(hub.sent).toHaveLength(sent);
    await act(() => { root.querySelector("dialog")?.dispatchEvent(new Event("cancel", { cancelable: true })); });
    expect(root.querySelector("dialog")).toBeNull();
  });
});

describe("Dialog", () => {
  it("keeps the focus: from the last control to the first and back", async () => {
    await opened();
    const dialog = root.querySelector("dialog");
    const close = dialog?.querySelector("button");
    field()?.focus();
    await press("Tab", field());
    expect(document.activeElement).toBe(close);
    await act(() => { close?.dispatchEvent(new KeyboardEvent("keydown", { key: "Tab", shiftKey: true, bubbles: true, cancelable: true })); });
    expect(document.activeElement).toBe(field());
  });

  it("is modal", async () => {
    await draw(shown().model);
    await press("?");
    expect(root.querySelector("dialog")?.open).toBe(true);
    expect(root.querySelector("dialog")?.textContent).toContain("pause, or resume");
  });
});
