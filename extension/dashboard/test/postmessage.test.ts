import { beforeEach, describe, expect, it, vi } from "vitest";
import type { Listener } from "../src/hub";
import { EditorHub } from "../src/postmessage";
import type { FromPage, ToPage } from "../src/wire";

let posted: FromPage[];
let heard: unknown[];
let hub: EditorHub;
let page: EventTarget & { origin: string };

function say(message: ToPage, origin = "vscode-webview://own"): void {
  page.dispatchEvent(new MessageEvent("message", { data: message, origin }));
}

beforeEach(() => {
  posted = [];
  heard = [];
  page = Object.assign(new EventTarget(), { origin: "vscode-webview://own" });
  hub = new EditorHub(
    { postMessage: (message) => { posted.push(message); }, getState: () => undefined, setState: () => undefined },
    page as unknown as Window,
  );
  const listener: Listener = {
    connection: (state, hint) => { heard.push([state, hint]); },
    event: (event) => { heard.push(event.type); },
    columns: ({ header }) => { heard.push(header.metric); },
  };
  hub.start(listener);
});

describe("EditorHub", () => {
  it("says that it listens, and sends once the host is connected", () => {
    expect(posted).toEqual([{ type: "start" }]);
    expect(hub.send({ type: "ping" })).toBe(false);
    say({ type: "connection", state: "open", hint: "" });
    expect(hub.send({ type: "ping" })).toBe(true);
    expect(posted[1]).toEqual({ type: "send", message: { type: "ping" } });
    expect(heard).toEqual([["open", ""]]);
  });

  it("hands on events, columns and the wish to show another session", () => {
    const header = new TextEncoder().encode(JSON.stringify({ session: "s", run: "r", metric: "lr", reset: true, cursor: "0", columns: [] }));
    const content = new ArrayBuffer(8 * Math.ceil((4 + header.length) / 8));
    new DataView(content).setUint32(0, header.length, true);
    new Uint8Array(content).set(header, 4);
    hub.onFollow = (session) => { heard.push(session); };
    say({ type: "text", text: '{"type": "pong"}' });
    say({ type: "columns", content });
    say({ type: "follow", session: "k3f9q2ma" });
    expect(heard).toEqual(["pong", "lr", "k3f9q2ma"]);
  });

  it("does not listen to a page of another origin", () => {
    say({ type: "connection", state: "open", hint: "" }, "https://evil.example");
    say({ type: "text", text: '{"type": "pong"}' }, "null");
    expect(heard).toEqual([]);
    expect(hub.send({ type: "ping" })).toBe(false);
  });

  it("has the host change what is kept, and a session put into a file", async () => {
    const answers = Promise.all([hub.ask("POST", "sessions/a/pin", { pinned: true }), hub.ask("POST", "import", new Blob(["x"])), hub.bundle("a", { logs: false })]);
    await vi.waitFor(() => { expect(posted).toHaveLength(4); });
    expect(posted).toContainEqual({ type: "ask", id: 1, method: "POST", path: "sessions/a/pin", body: '{"pinned":true}' });
    expect(posted).toContainEqual({ type: "bundle", id: 2, session: "a", wanted: { logs: false } });
    expect(posted[3]).toMatchObject({ type: "ask", id: 3, path: "import" });
    for (const [id, body] of [[1, "{}"], [2, "false"], [3, '{"id": "b"}']] as const) say({ type: "got", id, ok: true, body });
    expect(await answers).toEqual([{}, { id: "b" }, false]);
  });

  it("ties answers to questions, and tells a refusal from silence", async () => {
    const [good, refused] = [hub.get("hub"), hub.get("sessions/x")];
    say({ type: "got", id: 2, ok: false, body: '{"error": {"code": "no_session", "message": "no session"}}' });
    say({ type: "got", id: 1, ok: true, body: '{"pid": 7}' });
    say({ type: "got", id: 9, ok: true, body: "{}" });
    expect(await good).toEqual({ pid: 7 });
    await expect(refused).rejects.toMatchObject({ message: "no session", unknownRoute: false });
    vi.useFakeTimers();
    const silent = hub.get("hub");
    const end = expect(silent).rejects.toThrow("no answer");
    await vi.advanceTimersByTimeAsync(31_000);
    await end;
    vi.useRealTimers();
  });

  it("hands files to the host", async () => {
    await hub.save("a.csv", new Blob(["x,y"]));
    const message = posted[1];
    expect(message?.type === "save" && [message.name, new TextDecoder().decode(message.content)]).toEqual(["a.csv", "x,y"]);
  });
});
