import { describe, expect, it } from "vitest";
import { takeToken } from "../src/token";
import { columns, FakeHub, histogram, session, shown } from "./fake";
import { TILES } from "../src/metrics";
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
    expect(model.commands.pending("bar")?.command.name).toBe("pause");
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
    expect(model.commands.at("bar")).toMatchObject({ state: "wrong", reason: "not sent: the hub is not connected" });
    expect(model.commands.pending("bar")).toBeNull();
  });

  it("drops the data of a session that is no longer shown", () => {
    const { model } = shown();
    model.samples.histogram = histogram();
    model.event({ type: "snapshot", session: session({ id: "zzzzzzzz" }), sessions: [], cursor: "0" });
    expect(model.samples.histogram).toBeNull();
  });
});

describe("metrics", () => {
  const subscribed = (hub: FakeHub) => hub.sent.filter((message) => message.type === "subscribe").map(({ metrics }) => metrics ?? []);

  it("subscribes to what is shown only, and to each once", () => {
    const { hub, model } = shown();
    model.choose("grad_norm");
    model.show("system", ["cpu", "rss"]);
    model.show("system", ["cpu", "rss"]);
    model.show("system", []);
    model.show("overhead", ["step_ms"]); // is on a tile
    expect(subscribed(hub).map((metrics) => metrics.filter((name) => !(TILES as readonly string[]).includes(name)))).toEqual([
      ["loss", "valid/loss"], ["loss", "grad_norm"], ["loss", "grad_norm", "cpu", "rss"], ["loss", "grad_norm"],
    ]);
  });

  it("never asks for more than the hub gives, and keeps what the main chart shows", () => {
    const { hub, model } = shown();
    model.show("system", Array.from({ length: 30 }, (_, number) => `own/${number}`));
    model.choose("accuracy_of_mine");
    const last = subscribed(hub).pop() ?? [];
    expect(last).toHaveLength(16);
    expect(last.slice(0, 2)).toEqual(["loss", "accuracy_of_mine"]);
  });

  it("lets a curve go that nobody shows: it would go stale", () => {
    const { model } = shown();
    model.choose("grad_norm");
    model.columns(columns({ step: [1], value: [2] }, true, "grad_norm"));
    expect(model.curve("grad_norm").length).toBe(1);
    model.choose("loss");
    expect(model.curve("grad_norm").length).toBe(0);
    model.columns(columns({ step: [2], value: [2] }, false, "grad_norm")); // was under way
    expect(model.curve("grad_norm").length).toBe(0);
  });

  it("lists what has values, the loss first", () => {
    const { model } = shown({ metrics: ["lr", "loss", "cpu"] });
    expect(model.metrics()).toEqual(["loss", "lr", "cpu"]);
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
    expect(format.micro(138.4)).toBe("138 µs");
    expect(format.micro(2118)).toBe("2.12 ms");
  });

  it("writes durations and memory as a person would", () => {
    expect([5, 65, 3725].map(format.duration)).toEqual(["5 s", "1 min 5 s", "1 h 2 min"]);
    expect(format.memory(308.4)).toBe("308 MB");
    expect(format.memory(68_900)).toBe("68.9 GB");
    expect(format.value(10_204.4)).toBe("10,204");
    expect(format.tick(1e-5)).toBe("1e-5");
  });
});
