import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { copy } from "../src/clipboard";
import { NotServed } from "../src/hub";
import type { Model } from "../src/model";
import { App } from "../src/parts/App";
import type { CheckpointInfo, Session, Storage } from "../src/protocol";
import { newest, obstacle, quoted, resumeCommand } from "../src/resumes";
import { session, shown, type FakeHub } from "./fake";

vi.mock("../src/parts/Chart", () => ({ Chart: () => null }));

let root: HTMLElement;
let hub: FakeHub;
let model: Model;
let copied: string[];

beforeEach(() => {
  root = document.createElement("div");
  document.body.replaceChildren(root);
  copied = [];
  vi.spyOn(navigator.clipboard, "writeText").mockImplementation((text) => { copied.push(text); return Promise.resolve(); });
});
afterEach(() => {
  render(null, root);
  vi.restoreAllMocks();
});

const old = session({ id: "aaaaaaaa", name: "old.py", state: "ended", started: 100, ended: 190 });
const storage = (changes: Partial<Storage> = {}): Storage => ({
  bytes: 3_000_000, budget: 10_000_000, free: 8e9, place: "/data/sessions",
  sessions: [
    { id: "k3f9q2ma", bytes: 1_000_000, checkpoints: 0, pinned: false, kept: "running" },
    { id: "aaaaaaaa", bytes: 2_000_000, checkpoints: 1_500_000, pinned: false, kept: "" },
  ],
  ...changes,
});
const settled = () => act(async () => {
  await new Promise((resume) => setTimeout(resume, 5));
  await new Promise((resume) => requestAnimationFrame(resume));
});
const acted = async (action: () => void) => {
  await act(action);
  await settled();
};
const text = (selector: string) => root.querySelector(selector)?.textContent ?? "";
const button = (label: string, within: ParentNode = root) => [...within.querySelectorAll("button")].find((found) => [found.textContent, found.getAttribute("aria-label")].some((words) => words?.startsWith(label)));
const click = (label: string, within?: ParentNode) => acted(() => {
  const found = button(label, within);
  if (!found) throw new Error(`there is no ${label}`);
  found.click();
});

async function page(changes: Partial<Session> = {}): Promise<void> {
  ({ hub, model } = shown(changes));
  model.event({ type: "snapshot", session: session(changes), sessions: [session(changes), old], cursor: "0" });
  hub.answers.set("storage", storage());
  hub.answers.set("/journal", { session: "k3f9q2ma", entries: [] });
  await acted(() => { render(<App model={model} />, root); });
}

async function list(): Promise<void> {
  await page();
  await acted(() => { document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "s", bubbles: true, cancelable: true })); });
}

describe("sessions on the disk", () => {
  const row = (id: string) => {
    const found = [...root.querySelectorAll("tr")].find(({ textContent }) => textContent.includes(id));
    if (!found) throw new Error(`there is no row of ${id}`);
    return found;
  };

  it("shows what each takes, and all of them, the budget and the place", async () => {
    await list();
    expect(text("[role=option][id=option-aaaaaaaa]")).toContain("2 MB");
    await click("On the disk");
    for (const part of ["3 MB", "of 10 MB", "8.00 GB free", "/data/sessions"]) expect(text(".total")).toContain(part);
    expect(row("aaaaaaaa").textContent).toContain("checkpoints 1.5 MB");
    expect(row("k3f9q2ma").textContent).toContain("stays: its script runs");
  });

  it("pins, and deletes after a yes, never what runs", async () => {
    await list();
    await click("On the disk");
    expect(button("Delete", row("k3f9q2ma"))).toBeUndefined();
    await click("Pin", row("aaaaaaaa"));
    expect(hub.changes).toEqual([["POST", "sessions/aaaaaaaa/pin", { pinned: true }]]);
    await click("Delete", row("aaaaaaaa"));
    await click("No", row("aaaaaaaa"));
    expect(hub.changes).toHaveLength(1);
    await click("Delete", row("aaaaaaaa"));
    await click("Delete for good", row("aaaaaaaa"));
    expect(hub.changes[1]).toEqual(["DELETE", "sessions/aaaaaaaa"]);
    expect(model.sessions.map(({ id }) => id)).toEqual(["k3f9q2ma"]);
    expect(text("dialog .said")).toContain("old.py (aaaaaaaa) is deleted");
  });

  it("keeps what the hub does not delete, and says why", async () => {
    await list();
    await click("On the disk");
    hub.change = () => { throw new NotServed({ code: "refused", message: "session aaaaaaaa is running", remedy: "stop it first" }); };
    await click("Delete", row("aaaaaaaa"));
    await click("Delete for good", row("aaaaaaaa"));
    expect(text("dialog .said.wrong")).toContain("session aaaaaaaa is running: stop it first");
    expect(model.sessions).toHaveLength(2);
  });

  it("shows the newest of the others where the shown one was deleted", async () => {
    await list();
    await act(() => model.remove(session({ state: "ended" })));
    expect(model.session).toBeNull();
    expect(hub.sent.at(-1)).toMatchObject({ type: "subscribe", session: "last" });
  });
});

describe("import", () => {
  const choose = (content: string) => acted(() => {
    const field = root.querySelector<HTMLInputElement>("input[type=file]");
    if (!field) throw new Error("no field");
    Object.defineProperty(field, "files", { value: [new File([content], "run.otf")], configurable: true });
    field.dispatchEvent(new Event("change", { bubbles: true }));
  });

  it("shows what the bundle became", async () => {
    await list();
    hub.change = () => session({ id: "bbbbbbbb", state: "imported" });
    await choose("x");
    expect(hub.changes.map(([method, path]) => [method, path])).toEqual([["POST", "import"]]);
    expect(hub.sent.at(-1)).toMatchObject({ session: "bbbbbbbb" });
    expect(root.querySelector("dialog")).toBeNull();
  });

  it("says why a bundle is refused, with the remedy, and asks for no trust", async () => {
    await list();
    hub.change = () => { throw new NotServed({ code: "damaged", message: "run.otf is cut", remedy: "export it again" }); };
    await choose("x");
    expect(text("dialog .said.wrong")).toContain("run.otf is cut: export it again");
    expect(root.textContent).not.toContain("Do you trust");
  });

  it("asks for trust where the bundle has pickled parts, and does nothing on a no", async () => {
    await list();
    hub.change = (_, path) => {
      if (path.includes("trust=yes")) return session({ id: "bbbbbbbb", state: "imported" });
      throw new NotServed({ code: "untrusted", message: "run.otf holds pickled objects (a.pkl)" });
    };
    await choose("x");
    expect(text("dialog .said.wrong")).toContain("a.pkl");
    await click("No");
    expect(root.textContent).not.toContain("Do you trust");
    await choose("x");
    await click("I trust it");
    expect(hub.changes.map(([, path]) => path)).toEqual(["import", "import", "import?trust=yes"]);
    expect(root.querySelector("dialog")).toBeNull();
  });
});

describe("the session's menu", () => {
  it("exports what is chosen, and says what became of it", async () => {
    await page();
    await click("Export or reset");
    await acted(() => {
      const choice = root.querySelector<HTMLSelectElement>(".panel select");
      if (choice) choice.value = "newest";
      choice?.dispatchEvent(new Event("change", { bubbles: true }));
      root.querySelectorAll<HTMLInputElement>(".panel input[type=checkbox]")[1]?.click();
    });
    await acted(() => { root.querySelector(".panel form")?.dispatchEvent(new Event("submit", { bubbles: true, cancelable: true })); });
    expect(hub.changes).toEqual([["bundle", "k3f9q2ma", { checkpoints: ["newest"], samples: true, logs: false, script: true }]]);
    expect(text(".panel .said")).toBe("k3f9q2ma.otf is saved.");
  });

  it("resets after a yes; a refusal has its remedy, and the command to copy", async () => {
    await page();
    await click("Export or reset");
    await click("Reset");
    await click("Back to the first step");
    const sent = hub.sent.at(-1);
    if (sent?.type !== "command") throw new Error("nothing was sent");
    expect(sent).toMatchObject({ name: "reset", args: {} });
    await acted(() => { model.event({ type: "answer", session: "k3f9q2ma", answer: { id: sent.id, n: 1, status: "refused", reason: "no checkpoint of the first step", remedy: "start it again" } }); });
    expect(text(".panel .said.wrong")).toContain("no checkpoint of the first step – start it again");
    await click("Copy reset command");
    expect(copied).toEqual(["onthefly reset k3f9q2ma"]);
  });

  it("has the command for a session that has ended, and none for one that was imported", async () => {
    await page({ state: "ended" });
    await click("Export or reset");
    expect(button("Copy reset command")).toBeDefined();
    expect(button("Reset")).toBeUndefined();
    await page({ state: "imported" });
    expect(button("Copy reset command")).toBeUndefined();
    expect(text(".panel")).toContain("start it in a session of its own");
  });
});

describe("resumes", () => {
  const checkpoint = (changes: Partial<CheckpointInfo> = {}): CheckpointInfo => ({
    name: "baseline-40", run: "baseline", step: 40, epoch: 1, time: 5, why: "every", memory: 0, disk: 1000, state: "durable", resume: "", ...changes,
  });

  it("has the command of each checkpoint that can be resumed, and says of the others why not", async () => {
    await page({ state: "ended", controls: { checkpoints: [checkpoint(), checkpoint({ name: "x", time: 6, resume: "a thread trains" }), checkpoint({ name: "y", state: "memory" })] } });
    await acted(() => { root.querySelector<HTMLElement>("#tab-Checkpoints")?.click(); });
    expect([...root.querySelectorAll("#tab button")].filter(({ textContent }) => textContent === "Copy resume command")).toHaveLength(1);
    await click("Copy resume command");
    expect(copied).toEqual(["onthefly run --resume k3f9q2ma@baseline:40"]);
    expect(text("#tab")).toContain("no resume in another process: a thread trains");
  });

  it("shows each receipt, and what differs", async () => {
    const receipt = { session: "k3f9q2ma", run: "resume1", from_run: "baseline", from_step: 40, compared: 24, equal: 24, expected: 24, first_difference: "", text: "24 of 24 steps bit-identical", time: 1 };
    await page({ controls: {}, receipts: [receipt, { ...receipt, run: "resume2", equal: 3, text: "3 of 24 steps bit-identical", first_difference: "torch 2.13, not 2.12" }] });
    await acted(() => { root.querySelector<HTMLElement>("#tab-Checkpoints")?.click(); });
    const rows = [...root.querySelectorAll("table[aria-label=Resumes] tbody tr")];
    expect(rows.map(({ textContent }) => textContent.includes("torch 2.13"))).toEqual([true, false]);
    expect(rows[1]?.textContent).toContain("24 of 24 steps bit-identical");
    expect(rows.map((row) => row.querySelector(".tag") !== null)).toEqual([true, false]);
  });

  it("quotes for a shell, and names the script of an imported session", () => {
    expect(["a-b", "a b", "it's", ""].map(quoted)).toEqual(["a-b", "'a b'", "'it'\\''s'", "''"]);
    expect(resumeCommand(session({ state: "imported", script: "/home/ana/my train.py", argv: ["--lr", "1e-3"] }), checkpoint()))
      .toBe("onthefly run --resume k3f9q2ma@baseline:40 -- python 'my train.py' --lr 1e-3");
  });

  it("takes the newest that another process can go on from", () => {
    expect(newest([checkpoint({ name: "a", time: 1 }), checkpoint({ name: "b", time: 3, state: "writing" }), checkpoint({ name: "c", time: 2 })])?.name).toBe("c");
    expect(newest([checkpoint({ resume: "no" })])).toBeUndefined();
    expect(obstacle(checkpoint({ state: "failed" }))).toBe("it is not on the disk");
  });
});

describe("the clipboard", () => {
  it("is reached the old way where the new one is denied, or not at all", async () => {
    vi.spyOn(navigator.clipboard, "writeText").mockRejectedValue(new Error("denied"));
    const old = vi.fn(() => true);
    Object.assign(document, { execCommand: old });
    expect(await copy("x")).toBe(true);
    old.mockReturnValue(false);
    expect(await copy("x")).toBe(false);
    expect(document.querySelector("textarea")).toBeNull();
  });
});
