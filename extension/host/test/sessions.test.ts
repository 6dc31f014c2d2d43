import { beforeEach, describe, expect, it, vi } from "vitest";
import type { HubEvent, Session } from "../../dashboard/src/protocol";
import { Actions } from "../src/actions";
import { exportRecords } from "../src/exports";
import { notice } from "../src/notices";
import { row } from "../src/rows";
import { Sessions } from "../src/sessions";
import { Status } from "../src/status";
import { FakeEditor, session } from "./fake";

let editor: FakeEditor;
let sessions: Sessions;
let sent: { id: string; name: string; session: string; by: string }[];
let ended: Session[];

/** The hub says something. */
function say(event: HubEvent): void {
  (sessions.connection as unknown as { listener: { text(text: string): void } }).listener.text(JSON.stringify(event));
}
const snapshot = (...all: Session[]) => { say({ type: "snapshot", session: null, sessions: all, cursor: "0" }); };
const change = (changes: Partial<Session>) => { say({ type: "session", session: session(changes) }); };

beforeEach(() => {
  editor = new FakeEditor();
  sessions = new Sessions(() => ({ hub: null, reason: "" }));
  [sent, ended] = [[], []];
  vi.spyOn(sessions.connection, "open", "get").mockReturnValue(true);
  vi.spyOn(sessions.connection, "send").mockImplementation((text) => { sent.push(JSON.parse(text) as (typeof sent)[0]); return true; });
  sessions.onEnd((session) => { ended.push(session); });
});

describe("Sessions", () => {
  it("keeps the newest first, and tells of an end once, of those that it saw alive", () => {
    snapshot(session({ id: "old", state: "ended" }), session({ id: "a", started: 1 }), session({ id: "b", started: 2 }));
    expect(sessions.all.map(({ id }) => id)).toEqual(["b", "a", "old"]);
    change({ id: "a", state: "crashed", started: 1 });
    change({ id: "a", state: "crashed", started: 1 });
    snapshot(session({ id: "b", started: 2, state: "lost" }), session({ id: "c", state: "ended" }));
    expect(ended.map(({ id, state }) => `${id} ${state}`)).toEqual(["a crashed", "b lost"]);
  });

  it("ties answers to commands", async () => {
    const asked = sessions.command(session(), "pause");
    const id = sent[0]?.id ?? "";
    expect(sent[0]).toMatchObject({ name: "pause", session: "k3f9q2ma", by: "VS Code" });
    say({ type: "answer", session: "k3f9q2ma", answer: { id, n: 1, status: "accepted" } });
    say({ type: "answer", session: "k3f9q2ma", answer: { id, n: 1, status: "refused", reason: "several processes train", remedy: "pause them one by one" } });
    expect(await asked).toEqual({ fine: false, text: "pause of train.py refused: several processes train: pause them one by one" });
  });

  it("says when the script does not come to its next step, and when nothing is connected", async () => {
    vi.useFakeTimers();
    const asked = sessions.command(session(), "pause");
    await vi.advanceTimersByTimeAsync(61_000);
    expect((await asked).text).toContain("has not reached its next optimizer step");
    vi.spyOn(sessions.connection, "send").mockReturnValue(false);
    expect((await sessions.command(session(), "pause")).text).toContain("not connected");
    vi.useRealTimers();
  });
});

describe("the status bar", () => {
  beforeEach(() => { new Status(editor, sessions); });

  it("shows state, step and loss, and a click pauses or resumes", () => {
    snapshot(session());
    expect(editor.status).toMatchObject({ text: "$(debug-pause) running · step 1,200 · loss 0.5000", command: "onthefly.toggle" });
    change({ state: "paused" });
    expect(editor.status).toMatchObject({ text: "$(debug-continue) paused · step 1,200 · loss 0.5000", command: "onthefly.toggle" });
    change({ state: "ended", loss: null });
    expect(editor.status).toMatchObject({ text: "$(check) ended · step 1,200 · loss –", command: "onthefly.showDashboard" });
  });

  it("prefers what is alive, then what is of this window, then what is new", () => {
    const other = { script: "/else/x.py", cwd: "/else" };
    snapshot(session({ id: "a", step: 1, state: "ended", started: 9 }), session({ id: "b", step: 2, ...other, started: 8 }), session({ id: "c", step: 3, started: 1 }));
    expect(editor.status?.text).toContain("step 3 ");
    editor.roots = [];
    change({ id: "b", step: 2, ...other, started: 8 });
    expect(editor.status?.text).toContain("step 2 ");
    snapshot(session({ id: "b", state: "ended", ...other }));
    expect(editor.status).toBeNull();
  });

  it("is not there without a hub", () => {
    snapshot(session());
    vi.spyOn(sessions.connection, "open", "get").mockReturnValue(false);
    snapshot(session());
    expect(editor.status).toBeNull();
  });
});

describe("actions", () => {
  let actions: Actions;
  beforeEach(() => { actions = new Actions(editor, sessions); });
  const settle = (status: "applied" | "failed") => { say({ type: "answer", session: "", answer: { id: sent.at(-1)?.id ?? "", n: 1, status, reason: status === "failed" ? "why" : "" } }); };

  it("pause what runs and resume what is paused, without asking which", async () => {
    snapshot(session({ id: "a" }), session({ id: "b", state: "paused" }));
    const asked = [actions.pause(undefined), actions.resume(undefined)];
    await vi.waitFor(() => { expect(sent.map(({ name, session }) => `${name} ${session}`)).toEqual(["pause a", "resume b"]); });
    for (const { id } of sent) say({ type: "answer", session: "", answer: { id, n: 1, status: "applied" } });
    await Promise.all(asked);
    expect(editor.said).toEqual([]);
  });

  it("step and keep a checkpoint of what lives, and tell a refusal", async () => {
    snapshot(session({ id: "a", state: "paused" }), session({ id: "b", state: "ended" }));
    const asked = [actions.step(undefined), actions.checkpoint(undefined)];
    await vi.waitFor(() => { expect(sent.map(({ name, session }) => `${name} ${session}`)).toEqual(["step a", "checkpoint a"]); });
    for (const { id, name } of sent) say({ type: "answer", session: "", answer: { id, n: 1, status: name === "step" ? "applied" : "refused", reason: "no space left" } });
    await Promise.all(asked);
    expect(editor.said).toEqual([["warning", "checkpoint of train.py refused: no space left."]]);
  });

  it("ask which of several, and take the row that was clicked", async () => {
    snapshot(session({ id: "a", started: 1 }), session({ id: "b" }));
    editor.answers = [1];
    void actions.pause(undefined);
    await vi.waitFor(() => { expect(sent.at(-1)?.session).toBe("b"); });
    void actions.pause({ id: "a" });
    await vi.waitFor(() => { expect(sent.at(-1)?.session).toBe("a"); });
  });

  it("stop only after a yes", async () => {
    snapshot(session());
    editor.answers = [false];
    await actions.stop(undefined);
    expect(sent).toEqual([]);
    editor.answers = [true];
    const asked = actions.stop(undefined);
    await vi.waitFor(() => { expect(sent[0]?.name).toBe("stop"); });
    settle("failed");
    await asked;
    expect(editor.said).toEqual([["warning", "stop of train.py failed: why."]]);
  });

  it("reset after a yes; where that is refused, or the script has ended, the command is offered", async () => {
    snapshot(session());
    editor.answers = [false];
    await actions.reset({ id: "k3f9q2ma" });
    expect(sent).toEqual([]);
    editor.answers = [true, "Copy Command"];
    const asked = actions.reset({ id: "k3f9q2ma" });
    await vi.waitFor(() => { expect(sent[0]?.name).toBe("reset"); });
    settle("failed");
    await asked;
    expect([editor.said.at(-1)?.[1], editor.copied]).toEqual(["reset of train.py failed: why.", "onthefly reset k3f9q2ma"]);
    editor.copied = "";
    snapshot(session({ state: "ended" }));
    editor.answers = [undefined];
    await actions.reset(undefined);
    expect([editor.said.at(-1)?.[1], editor.copied]).toEqual(["train.py is ended: it begins again from a terminal, as a run of its own.", ""]);
  });

  it("say what to do where there is nothing to act on", async () => {
    await actions.toggle();
    await actions.pause({ id: "gone" });
    await actions.pause(undefined);
    vi.spyOn(sessions.connection, "open", "get").mockReturnValue(false);
    await actions.stop(undefined);
    expect(editor.said.map(([, text]) => text)).toEqual([
      "No script runs under OnTheFly that could be paused.", "That session is not there any more.", "There is no session to pause.",
      "There is no session to stop: no hub is running. Run a script with OnTheFly first.",
    ]);
  });
});

describe("notices", () => {
  it("tell how a script of this window ended, as often as is wished", async () => {
    const shown: string[] = [];
    const tell = (changes: Partial<Session>) => notice(session(changes), editor, (id) => { shown.push(id); });
    editor.answers = ["Show Dashboard"];
    await tell({ state: "crashed", reason: "ValueError: x" });
    await tell({ state: "ended" });
    await tell({ state: "ended", script: "/else/x.py", cwd: "/else" });
    editor.settings["notify"] = "failure";
    await tell({ state: "stopped" });
    await tell({ state: "lost" });
    editor.settings["notify"] = "never";
    await tell({ state: "crashed" });
    expect(shown).toEqual(["k3f9q2ma"]);
    expect(editor.said.map(([weight, text]) => `${weight}: ${text}`)).toEqual([
      "error: train.py has failed after step 1,200, loss 0.5000. ValueError: x",
      "info: train.py has ended after step 1,200, loss 0.5000.",
      "error: train.py is gone: its process ended without a word after step 1,200, loss 0.5000.",
    ]);
  });
});

describe("rows", () => {
  it("say what a session is, and which actions it has", () => {
    expect(row(session({ state: "paused" }))).toMatchObject({ label: "train.py", description: "step 1,200 · loss 0.5000", spoken: "train.py, paused, step 1,200, loss 0.5000", icon: "debug-pause", kind: "paused" });
    expect(["starting", "running", "pausing", "ended", "crashed", "imported"].map((state) => row(session({ state: state as Session["state"] })).kind)).toEqual(["running", "running", "paused", "ended", "ended", "imported"]);
  });
});

describe("export", () => {
  const answer = (ok: boolean, text: string) => vi.spyOn(sessions.connection, "ask").mockResolvedValue({ ok, body: new TextEncoder().encode(text).buffer as ArrayBuffer });

  it("writes what the hub renders", async () => {
    const ask = answer(true, "a,b\n");
    editor.answers = [1, "/project/x.CSV"];
    await exportRecords(session(), sessions, editor);
    expect(ask).toHaveBeenCalledWith("sessions/k3f9q2ma/metrics?format=csv");
    expect(new TextDecoder().decode(editor.written.get("/project/x.CSV"))).toBe("a,b\n");
  });

  it("refuses other endings, says the hub's words, and does nothing where the dialogue was closed", async () => {
    answer(false, '{"error": {"message": "no pyarrow", "remedy": "pip install it"}}');
    editor.answers = [0, "/project/x.txt"];
    await exportRecords(session(), sessions, editor);
    expect(editor.said[0]?.[1]).toContain("must end in .parquet, .csv or .json");
    editor.answers = [0, "/project/x.parquet"];
    await expect(exportRecords(session(), sessions, editor)).rejects.toThrow("no pyarrow: pip install it");
    editor.answers = [0, undefined];
    await exportRecords(session(), sessions, editor);
    expect(editor.written.size).toBe(0);
  });
});
