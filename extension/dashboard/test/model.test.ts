import { describe, expect, it } from "vitest";
import { takeToken } from "../src/token";
import { FakeHub, histogram, session, shown } from "./fake";
import { Model } from "../src/model";
import * as format from "../src/format";

describe("Model", () => {
  it("follows the newest session as soon as it is connected, and again after a break", () => {
    const hub = new FakeHub();
    const model = new Model(hub);
    model.connected("open");
    model.connected("lost");
    expect(model.lostAt).toBeGreaterThan(0);
    model.connected("open");
    expect(hub.sent.map(({ type }) => type)).toEqual(["subscribe", "subscribe"]);
  });

  it("pauses what runs, resumes what is paused, and does nothing to what has ended", () => {
    const { hub, model } = shown();
    model.toggle();
    const sent = hub.sent[1];
    expect(sent).toMatchObject({ type: "command", name: "pause", session: "k3f9q2ma" });
    model.toggle(); // one at a time
    expect(hub.sent).toHaveLength(2);
    if (sent?.type !== "command") throw new Error("no command");
    model.event({ type: "answer", session: "k3f9q2ma", answer: { id: sent.id, n: 0, status: "accepted" } });
    expect(model.asking?.name).toBe("pause");
    model.event({ type: "answer", session: "k3f9q2ma", answer: { id: sent.id, n: 0, status: "applied" } });
    model.event({ type: "session", session: session({ state: "paused" }) });
    model.toggle();
    expect(hub.sent[2]).toMatchObject({ name: "resume" });

    const ended = shown({ state: "ended" });
    ended.model.toggle();
    expect(ended.hub.sent).toHaveLength(1);
  });

  it("says when a command could not be sent", () => {
    const { hub, model } = shown();
    hub.connected = false;
    model.toggle();
    expect(model.fault).toContain("not connected");
    expect(model.asking).toBeNull();
  });

  it("asks for the samples only when there are new records", async () => {
    const { hub, model } = shown();
    hub.answers.set("histogram", histogram());
    hub.answers.set("samples", []);
    await model.refresh();
    await model.refresh();
    expect(hub.asked.filter((path) => path.includes("samples"))).toHaveLength(1);
    model.event({ type: "session", session: session({ backwards: 13 }) });
    await model.refresh();
    expect(hub.asked.filter((path) => path.includes("samples"))).toHaveLength(2);
  });

  it("drops the data of a session that is no longer shown", () => {
    const { model } = shown();
    model.histogram = histogram();
    model.event({ type: "snapshot", session: session({ id: "zzzzzzzz" }), sessions: [], cursor: "0" });
    expect(model.histogram).toBeNull();
  });
});

describe("takeToken", () => {
  it("takes the token out of the address and keeps it for this tab", () => {
    history.replaceState(null, "", "/#token=abc");
    expect(takeToken(location, history, sessionStorage)).toBe("abc");
    expect(location.hash).toBe("");
    expect(takeToken(location, history, sessionStorage)).toBe("abc");
  });
});

describe("format", () => {
  it("writes losses shortly and says what is no number", () => {
    expect(format.loss(0.123456)).toBe("0.1235");
    expect(format.loss(1e-5)).toBe("1.00e-5");
    expect(format.loss("nan")).toBe("nan");
    expect(format.loss(null)).toBe("–");
  });

  it("tells the cost in time and share", () => {
    expect(format.cost(11, 1.2)).toBe("cost ≥ 11 µs · 0.9 %");
    expect(format.cost(null, 1)).toBe("cost –");
  });
});
