import { createHmac } from "node:crypto";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Connection } from "../src/connection";
import type { Found, HubFile } from "../src/runtime";

const HUB: HubFile = { pid: 7, node: "box", host: "127.0.0.1", port: 47621, token: "secret", version: "1.0", protocol: 1 };

class FakeSocket {
  static readonly OPEN = 1;
  static made: FakeSocket[] = [];
  readyState = 1;
  sent: string[] = [];
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string | ArrayBuffer }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onerror: (() => void) | null = null;
  constructor(readonly address: URL, readonly protocols: string[]) { FakeSocket.made.push(this); }
  send(text: string): void { this.sent.push(text); }
  close(): void { this.readyState = 3; }
}

let found: Found;
let heard: string[];
let connection: Connection;
/** Who answers on the port: the hub, a squatter, or nobody. */
let who: "hub" | "squatter" | "nobody";
let asked: { path: string; authorization: string | null }[];

function answer(address: URL, { headers }: RequestInit = {}): Promise<Response> {
  asked.push({ path: address.pathname, authorization: new Headers(headers).get("Authorization") });
  if (who === "nobody") return Promise.reject(new Error("ECONNREFUSED"));
  const nonce = Buffer.from(address.searchParams.get("nonce") ?? "", "hex");
  const proof = createHmac("sha256", "secret").update(Buffer.concat([Buffer.from("onthefly:healthz:"), nonce])).digest("hex");
  return Promise.resolve(new Response("{}", { headers: who === "hub" ? { "X-OnTheFly-Proof": proof } : { "X-OnTheFly-Proof": "00" } }));
}

const socket = () => FakeSocket.made.at(-1);
const pass = (milliseconds: number) => vi.advanceTimersByTimeAsync(milliseconds);

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("WebSocket", FakeSocket);
  vi.stubGlobal("fetch", answer);
  FakeSocket.made = [];
  [found, heard, asked, who] = [{ hub: HUB }, [], [], "hub"];
  connection = new Connection(() => found, {
    state: (state, hint) => { heard.push(`${state}: ${hint}`); },
    text: (text) => { heard.push(text); },
    columns: ({ byteLength }) => { heard.push(`${byteLength} bytes`); },
  });
});
afterEach(() => {
  connection.stop();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

async function connected(): Promise<FakeSocket> {
  connection.start();
  await pass(1);
  const made = socket();
  if (!made) throw new Error("no socket");
  made.onopen?.();
  return made;
}

describe("Connection", () => {
  it("proves the hub before it shows the token, and offers that as a subprotocol", async () => {
    const made = await connected();
    expect(asked).toEqual([{ path: "/healthz", authorization: null }]);
    expect(String(made.address)).toBe("ws://127.0.0.1:47621/api/v1/ws");
    expect(made.protocols).toEqual(["onthefly.v1", "onthefly.token.secret"]);
    made.onmessage?.({ data: "{}" });
    made.onmessage?.({ data: new ArrayBuffer(8) });
    expect(heard).toEqual(["open: ", "{}", "8 bytes"]);
  });

  it("tells a squatter nothing", async () => {
    who = "squatter";
    connection.start();
    await pass(20_000);
    expect(FakeSocket.made).toHaveLength(0);
    expect(asked.every(({ authorization }) => authorization === null)).toBe(true);
    expect(heard).toEqual(["connecting: What answers on port 47621 is not the hub. Stop it, or remove hub.json from the runtime folder."]);
  });

  it("waits for a hub, says why once, and connects soon after it appears", async () => {
    found = { hub: null, reason: "No hub is running." };
    connection.start();
    await pass(5000);
    expect(heard).toEqual(["connecting: No hub is running."]);
    found = { hub: HUB };
    await pass(600);
    socket()?.onopen?.();
    expect(heard.at(-1)).toBe("open: ");
  });

  it("tries a hub that does not answer ever more seldom, and another one at once", async () => {
    who = "nobody";
    connection.start();
    await pass(30_000);
    expect(asked.length).toBeGreaterThan(5);
    expect(asked.length).toBeLessThan(14);
    [found, who] = [{ hub: { ...HUB, pid: 8 } }, "hub"];
    await pass(600);
    expect(FakeSocket.made).toHaveLength(1);
  });

  it("notices that the hub was killed, and takes the next", async () => {
    const made = await connected();
    found = { hub: null, reason: "No hub is running." };
    made.onclose?.({ code: 1006, reason: "" });
    expect(connection.open).toBe(false);
    expect(connection.send("{}")).toBe(false);
    await expect(connection.ask("hub")).rejects.toThrow("not connected");
    await pass(600);
    found = { hub: { ...HUB, pid: 8 } };
    await pass(600);
    socket()?.onopen?.();
    expect(heard).toEqual(["open: ", "lost: The hub is gone; this tries again by itself.", "lost: No hub is running.", "open: "]);
  });

  it("notices a hub that keeps its socket open and says nothing", async () => {
    const made = await connected();
    await pass(6000);
    expect(made.sent).toContain('{"type": "ping"}');
    made.onmessage?.({ data: '{"type": "pong"}' });
    await pass(6000);
    expect(made.readyState).toBe(1);
    await pass(6000);
    expect(made.readyState).toBe(3);
    expect(heard).toContain("lost: The hub does not answer.");
  });

  it("says when the hub is full", async () => {
    (await connected()).onclose?.({ code: 1013, reason: "32 dashboards are connected already" });
    expect(heard.at(-1)).toBe("lost: The hub is full: 32 dashboards are connected already.");
  });

  it("asks with the token, and sends nothing that the hub would not take", async () => {
    await connected();
    expect(new TextDecoder().decode((await connection.ask("hub")).body)).toBe("{}");
    expect(asked.at(-1)).toEqual({ path: "/api/v1/hub", authorization: "Bearer secret" });
    expect(connection.send("x".repeat(70_000))).toBe(false);
  });

  it("holds while its page does not keep up, and stops for good", async () => {
    const made = await connected();
    connection.pause();
    connection.hurry();
    await pass(60_000);
    expect([made.readyState, FakeSocket.made.length]).toEqual([3, 1]);
    connection.resume();
    await pass(1);
    expect(FakeSocket.made).toHaveLength(2);
    connection.stop();
    connection.restart();
    await pass(60_000);
    expect(FakeSocket.made).toHaveLength(2);
  });
});
