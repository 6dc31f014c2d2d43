import { afterEach, describe, expect, it, vi } from "vitest";
import { UNKNOWN } from "../src/commands";
import { NotServed } from "../src/hub";
import type { Answer, SendCommand } from "../src/protocol";
import { session, shown, type FakeHub } from "./fake";

function last(hub: FakeHub): SendCommand {
  const sent = hub.sent.filter((message) => message.type === "command").pop();
  if (!sent) throw new Error("no command");
  return sent;
}
const count = (hub: FakeHub) => hub.sent.filter(({ type }) => type === "command").length;
const answer = (changes: Partial<Answer>) => ({ type: "answer" as const, session: "k3f9q2ma", answer: { id: "", n: 0, status: "applied" as const, ...changes } });
const lr = (value: number) => ({ name: "set" as const, args: { name: "lr", value } });

describe("CommandStore", () => {
  it("sends a command with its arguments, and keeps the answer for the place that asked", () => {
    const { hub, model } = shown();
    model.command("set/0/0/lr", lr(0.1));
    model.command("clip", { name: "clip", args: { norm: 1 } });
    const [set, clip] = hub.sent.filter((message) => message.type === "command");
    expect(set).toMatchObject({ session: "k3f9q2ma", name: "set", args: { name: "lr", value: 0.1 }, by: "dashboard" });
    model.event(answer({ id: clip?.id ?? "", n: 1, status: "refused", reason: "no gradient", remedy: "after the first step" }));
    expect(model.commands.at("clip")).toMatchObject({ state: "wrong", reason: "refused: no gradient", remedy: "after the first step" });
    expect(model.commands.pending("set/0/0/lr")?.id).toBe(set?.id);
    expect(model.commands.at("set")?.id).toBe(set?.id); // the newest under it
    expect(model.commands.at("se")).toBeNull();
  });

  it("waits for the end of what is accepted, and takes each answer once", () => {
    const { hub, model } = shown();
    model.command("clip", { name: "clip", args: {} });
    const { id } = last(hub);
    model.event(answer({ id, status: "accepted" }));
    expect(model.commands.pending("clip")?.state).toBe("accepted");
    model.event(answer({ id, status: "applied", step: 7 }));
    model.event(answer({ id, status: "refused", reason: "late" }));
    expect(model.commands.at("clip")).toMatchObject({ state: "applied", answer: { step: 7 } });
  });

  it("asks one thing at a time at a place", () => {
    const { hub, model } = shown();
    model.command("clip", { name: "clip", args: {} });
    model.command("clip", { name: "clip", args: { norm: 2 } });
    expect(count(hub)).toBe(1);
    model.event(answer({ id: last(hub).id }));
    model.command("clip", { name: "clip", args: { norm: 2 } });
    expect(count(hub)).toBe(2);
  });

  it("has no ear for stale answers: of what was asked before, by others, or in another session", () => {
    const { hub, model } = shown();
    model.command("clip", { name: "clip", args: {} });
    const first = last(hub);
    model.event(answer({ id: first.id, status: "refused", reason: "a" }));
    model.command("clip", { name: "clip", args: { norm: 1 } });
    model.event(answer({ id: first.id, status: "failed", reason: "b" }));
    model.event(answer({ id: "of another page", status: "failed" }));
    expect(model.commands.at("clip")?.state).toBe("sent");
    const second = last(hub);
    model.event({ type: "snapshot", session: session({ id: "zzzzzzzz" }), sessions: [], cursor: "0" });
    model.event(answer({ id: second.id, status: "refused", reason: "c" }));
    expect(model.commands.at("clip")).toBeNull();
  });

  it("keeps a refusal until it is read", () => {
    const { hub, model } = shown();
    model.command("clip", { name: "clip", args: {} });
    model.commands.dismiss("clip"); // is under way
    model.event(answer({ id: last(hub).id, status: "busy", reason: "too many" }));
    model.event({ type: "session", session: session({ step: 99 }) });
    expect(model.commands.at("clip")?.reason).toBe("busy: too many");
    model.commands.dismiss("clip");
    expect(model.commands.at("clip")).toBeNull();
  });

  it("tells a message that the hub did not understand where it was asked, else for the whole page", () => {
    const { hub, model } = shown();
    model.command("clip", { name: "clip", args: {} });
    model.event({ type: "error", id: last(hub).id, error: { code: "x", message: "too long", remedy: "shorter" } });
    expect(model.commands.at("clip")).toMatchObject({ state: "wrong", reason: "too long", remedy: "shorter" });
    expect(model.fault).toBe("");
    model.event({ type: "error", error: { code: "x", message: "no such thing" } });
    expect(model.fault).toBe("no such thing");
  });
});

describe("a connection that broke", () => {
  afterEach(() => { vi.useRealTimers(); });

  it("asks for the answer by its number, and never sends a command twice", async () => {
    const { hub, model } = shown();
    model.command("clip", { name: "clip", args: {} });
    const { id } = last(hub);
    model.event(answer({ id, n: 4, status: "accepted" }));
    hub.answers.set("commands/4", { id, n: 4, status: "applied", step: 9 });
    model.connected("lost");
    model.connected("open");
    await vi.waitFor(() => { expect(model.commands.at("clip")?.state).toBe("applied"); });
    expect(count(hub)).toBe(1);
  });

  it("asks again while the script has not answered", async () => {
    vi.useFakeTimers();
    const { hub, model } = shown();
    model.command("clip", { name: "clip", args: {} });
    const { id } = last(hub);
    model.event(answer({ id, n: 4, status: "accepted" }));
    hub.answers.set("commands/4", { id, n: 4, status: "accepted" });
    model.connected("open");
    await vi.advanceTimersByTimeAsync(10);
    expect(model.commands.pending("clip")).not.toBeNull();
    hub.answers.set("commands/4", { id, n: 4, status: "refused", reason: "the script has ended" });
    await vi.advanceTimersByTimeAsync(5000);
    expect(model.commands.at("clip")?.reason).toBe("refused: the script has ended");
  });

  it("says that nobody knows where the hub has no such command, or one of another", async () => {
    for (const [n, found] of [[undefined, null], [4, { id: "another", n: 4, status: "applied" }], [5, new NotServed({ code: "not_found", message: "no" })]] as const) {
      const { hub, model } = shown();
      model.command("step", { name: "step", args: { steps: 1 } });
      if (n !== undefined) model.event(answer({ id: last(hub).id, n, status: "accepted" }));
      hub.answer = () => {
        if (found instanceof Error) throw found;
        return found;
      };
      model.connected("open");
      await vi.waitFor(() => { expect(model.commands.at("step")?.reason).toBe(UNKNOWN); });
      expect(count(hub)).toBe(1);
    }
  });
});
