import { describe, expect, it } from "vitest";
import { Model } from "../src/model";
import type { Session } from "../src/protocol";
import { FakeHub, session } from "./fake";

const of = (id: string, pid: number, changes: Partial<Session> = {}) =>
  session({ id, ranks: [{ rank: 0, pid, node: "here", connected: true, step: 0 }], ...changes });
const subscribed = (hub: FakeHub) => hub.sent.flatMap((message) => (message.type === "subscribe" ? [message.session] : []));

describe("a model in a notebook", () => {
  it("shows the kernel's newest session, and no other one, until a person chooses", () => {
    const hub = new FakeHub();
    const model = new Model(hub, 42);
    model.connected("open");
    model.event({ type: "snapshot", session: null, sessions: [of("other", 7)], cursor: "0" });
    expect(subscribed(hub)).toEqual([]);
    model.event({ type: "session", session: of("first", 42) });
    model.event({ type: "session", session: of("newer", 7) });
    expect(subscribed(hub)).toEqual(["first"]);
    model.event({ type: "session", session: of("first", 42, { state: "stopped" }) });
    model.event({ type: "session", session: of("second", 42) });
    expect(subscribed(hub)).toEqual(["first", "second"]);
    model.connected("lost");
    model.connected("open");
    expect(subscribed(hub)).toEqual(["first", "second", "second"]);
    model.follow("last");
    model.event({ type: "session", session: of("third", 42) });
    expect(subscribed(hub).slice(3)).toEqual(["last"]);
  });

  it("elsewhere the newest of all", () => {
    const hub = new FakeHub();
    const model = new Model(hub);
    model.connected("open");
    model.event({ type: "session", session: of("first", 42) });
    expect(subscribed(hub)).toEqual(["last"]);
  });
});
