import { afterEach, describe, expect, it, vi } from "vitest";
import { login } from "../src/token";

const at = (address: string) => {
  const url = new URL(address);
  const seen: string[] = [];
  const history = { replaceState: (_: unknown, __: string, to: string) => { seen.push(to); } } as unknown as History;
  return { location: url as unknown as Location, history, seen };
};
const kept = () => {
  const values = new Map<string, string>();
  return { values, storage: { getItem: (key: string) => values.get(key) ?? null, setItem: (key: string, value: string) => values.set(key, value) } as unknown as Storage };
};
const forbidden = (): Storage => { throw new Error("frames of other sites may not store"); };
afterEach(() => { vi.unstubAllGlobals(); });

describe("login", () => {
  it("takes the token out of the fragment, and keeps it for the tab", async () => {
    const { location, history, seen } = at("http://127.0.0.1:47621/#token=secret");
    const { values, storage } = kept();
    expect(await login(location, history, () => storage)).toEqual({ token: "secret", kernel: null });
    expect(seen).toEqual(["/"]);
    expect([...values.values()]).toEqual(["secret"]);
    expect(await login(at("http://127.0.0.1:47621/").location, history, () => storage)).toEqual({ token: "secret", kernel: null });
  });

  it("gives a pass for the token once, out of the address before anything else, and stores nothing", async () => {
    const { location, history, seen } = at("http://127.0.0.1:47621/?pass=abc");
    const asked: [string, RequestInit][] = [];
    vi.stubGlobal("fetch", (url: URL, init: RequestInit) => {
      expect(seen).toEqual(["/"]);
      asked.push([url.href, init]);
      return Promise.resolve(Response.json({ token: "secret", pid: 42 }));
    });
    expect(await login(location, history, forbidden)).toEqual({ token: "secret", kernel: 42 });
    expect(asked).toHaveLength(1);
    expect(asked[0]?.[0]).toBe("http://127.0.0.1:47621/api/v1/token");
    expect(asked[0]?.[1]).toMatchObject({ method: "POST", body: '{"text":"abc"}', headers: { "Content-Type": "application/json" } });
  });

  it("is no login where the pass is not taken, or nobody answers", async () => {
    const { location, history } = at("http://127.0.0.1:47621/?pass=abc");
    vi.stubGlobal("fetch", () => Promise.resolve(Response.json({}, { status: 409 })));
    expect(await login(location, history, forbidden)).toEqual({ token: null, kernel: 0 });
    vi.stubGlobal("fetch", () => Promise.reject(new Error("gone")));
    expect(await login(location, history, forbidden)).toEqual({ token: null, kernel: 0 });
  });
});
