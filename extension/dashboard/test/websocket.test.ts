import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Connection, Listener } from "../src/hub";
import { BrowserHub } from "../src/websocket";

class FakeSocket {
  static readonly OPEN = 1;
  static made: FakeSocket[] = [];
  readyState = 1;
  sent: string[] = [];
  closed = false;
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: (() => void) | null = null;
  constructor(readonly address: URL, readonly protocols: string[]) {
    FakeSocket.made.push(this);
  }
  send(text: string): void {
    this.sent.push(text);
  }
  close(): void {
    this.closed = true;
  }
}

let status = 200;
let states: Connection[];
let listener: Listener;

beforeEach(() => {
  vi.useFakeTimers();
  FakeSocket.made = [];
  status = 200;
  states = [];
  listener = { connection: (state) => { states.push(state); }, event: () => undefined, columns: () => undefined };
  vi.stubGlobal("WebSocket", FakeSocket);
  vi.stubGlobal("fetch", () => (status ? Promise.resolve({ status }) : Promise.reject(new Error("gone"))));
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const start = (token: string | null) => {
  new BrowserHub(token, new URL("http://127.0.0.1:47621/")).start(listener);
};

describe("BrowserHub", () => {
  it("is denied without a token, and tries nothing", () => {
    start(null);
    expect(states).toEqual(["denied"]);
    expect(FakeSocket.made).toHaveLength(0);
  });

  it("offers the token as a subprotocol, never in the address", () => {
    start("secret");
    expect(FakeSocket.made[0]?.protocols).toEqual(["onthefly.v1", "onthefly.token.secret"]);
    expect(String(FakeSocket.made[0]?.address)).toBe("ws://127.0.0.1:47621/api/v1/ws");
  });

  it("stops when the hub does not know the token", async () => {
    start("old");
    status = 401;
    FakeSocket.made[0]?.onclose?.();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(states).toEqual(["denied"]);
    expect(FakeSocket.made).toHaveLength(1);
  });

  it("tries again, ever more slowly, while the hub is gone", async () => {
    start("t");
    status = 0;
    const waits: number[] = [];
    for (let attempt = 0; attempt < 4; attempt++) {
      FakeSocket.made[attempt]?.onclose?.();
      let waited = 0;
      while (FakeSocket.made.length === attempt + 1) {
        await vi.advanceTimersByTimeAsync(100);
        waited += 100;
      }
      waits.push(waited);
    }
    expect(states.every((state) => state === "lost")).toBe(true);
    expect(waits).toEqual([500, 1000, 2000, 4000]);
  });

  it("notices a hub that keeps its socket open and says nothing", async () => {
    start("t");
    const socket = FakeSocket.made[0];
    socket?.onopen?.();
    await vi.advanceTimersByTimeAsync(6000);
    socket?.onmessage?.({ data: JSON.stringify({ type: "pong" }) });
    await vi.advanceTimersByTimeAsync(6000);
    expect(states).toEqual(["open"]);
    expect(socket?.sent[0]).toBe(JSON.stringify({ type: "ping" }));
    status = 0;
    await vi.advanceTimersByTimeAsync(6000);
    expect(states).toContain("lost");
    expect(socket?.closed).toBe(true);
  });

  it("tells apart a hub that refuses from one that does not know the question", async () => {
    const answers: Record<string, unknown> = {
      "sessions/x": { error: { code: "no_session", message: "no session 'x'", remedy: "onthefly ps lists them" } },
      hub: { error: { code: "http_404", message: "Not Found" } },
    };
    vi.stubGlobal("fetch", (address: URL) => Promise.resolve(Response.json(answers[address.pathname.slice("/api/v1/".length)], { status: 404 })));
    const hub = new BrowserHub("t", new URL("http://127.0.0.1:47621/"));
    await expect(hub.get("sessions/x")).rejects.toMatchObject({ message: "no session 'x': onthefly ps lists them", unknownRoute: false });
    await expect(hub.get("hub")).rejects.toMatchObject({ unknownRoute: true });
  });

  it("gives up a request that never returns, and says of what kind a change is", async () => {
    vi.useRealTimers();
    const asked: [string, RequestInit][] = [];
    vi.stubGlobal("fetch", (address: URL, options: RequestInit) => {
      asked.push([address.pathname, options]);
      return Promise.resolve({ ok: true, json: () => Promise.resolve({}), blob: () => Promise.resolve(new Blob(["x"])) });
    });
    const hub = new BrowserHub("t", new URL("http://127.0.0.1:47621/"));
    await hub.get("storage");
    await hub.ask("DELETE", "sessions/a");
    await hub.ask("POST", "import", new Blob(["x"]));
    expect(asked.map(([path, { method, signal, headers }]) => [path, method, signal instanceof AbortSignal, (headers as Record<string, string>)["Content-Type"]])).toEqual([
      ["/api/v1/storage", "GET", true, undefined], ["/api/v1/sessions/a", "DELETE", true, "application/json"], ["/api/v1/import", "POST", false, "application/zip"],
    ]);
  });
});
