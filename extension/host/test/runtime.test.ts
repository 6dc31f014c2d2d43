import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { address, findHub, runtimeFolder, type HubFile } from "../src/runtime";

const NODE = "box";
const HUB: HubFile = { pid: process.pid, node: NODE, host: "127.0.0.1", port: 47621, token: "secret", version: "1.0", protocol: 1 };
let root: string;
let folder: string;

beforeEach(() => {
  root = fs.mkdtempSync(path.join(os.tmpdir(), "onthefly-runtime-"));
  folder = path.join(root, "own");
  fs.mkdirSync(folder, { mode: 0o700 });
});
afterEach(() => { fs.rmSync(root, { recursive: true, force: true }); });

function publish(changes: object = {}, mode = 0o600, where = folder): void {
  fs.writeFileSync(path.join(where, "hub.json"), JSON.stringify({ ...HUB, ...changes }), { mode });
  fs.chmodSync(path.join(where, "hub.json"), mode);
}

const find = (where = folder) => findHub({ ONTHEFLY_RUNTIME_DIR: where }, NODE);
const reason = (where = folder) => {
  const found = find(where);
  return found.hub ? "" : found.reason;
};

describe("runtimeFolder", () => {
  it("is where Python looks", () => {
    expect(runtimeFolder({ ONTHEFLY_RUNTIME_DIR: "/a", XDG_RUNTIME_DIR: "/b" })).toBe("/a");
    expect(runtimeFolder({ XDG_RUNTIME_DIR: "/b" })).toBe(path.join("/b", "onthefly"));
    expect(runtimeFolder({ TMPDIR: root, TEMP: "/c" })).toBe(path.join(root, `onthefly-${String(process.getuid?.())}`));
    expect(runtimeFolder({ TEMP: root, USERNAME: "ada" }, "win32")).toBe(path.join(root, "onthefly-ada"));
  });
});

describe("findHub", () => {
  it("reads a living hub's file", () => {
    publish();
    expect(find().hub).toMatchObject({ port: 47621, token: "secret" });
  });

  it("finds none where there is no file, no folder, or no whole file", () => {
    expect(reason()).toBe("No hub is running.");
    expect(reason(path.join(root, "absent"))).toBe("No hub is running.");
    fs.writeFileSync(path.join(folder, "hub.json"), '{"pid": 1', { mode: 0o600 });
    expect(reason()).toBe("No hub is running.");
    for (const changes of [{ port: "47621" }, { port: -1 }, { token: "" }, { host: 7 }, { pid: 1.5 }]) {
      publish(changes);
      expect([changes, reason()]).toEqual([changes, "No hub is running."]);
    }
  });

  it("finds none of another host or protocol, and none whose process is gone", () => {
    for (const changes of [{ node: "other" }, { protocol: 2 }, { pid: 2 ** 22 + 1 }]) {
      publish(changes);
      expect([changes, reason()]).toEqual([changes, "No hub is running."]);
    }
  });

  it("uses nothing that others could read or have written, and says what to do", () => {
    publish({}, 0o644);
    expect(reason()).toContain("chmod go=");
    publish();
    fs.chmodSync(folder, 0o755);
    expect(reason()).toContain(`others may look into ${folder}`);
    fs.chmodSync(folder, 0o700);
    fs.symlinkSync(folder, path.join(root, "link"));
    expect(reason(path.join(root, "link"))).toContain("is a link");
    fs.renameSync(path.join(folder, "hub.json"), path.join(root, "real.json"));
    fs.symlinkSync(path.join(root, "real.json"), path.join(folder, "hub.json"));
    expect(reason()).toContain("is a link");
  });

  it.runIf(process.getuid?.() === 0)("uses nothing of another user's", () => {
    publish();
    fs.chownSync(path.join(folder, "hub.json"), 65534, 65534);
    expect(reason()).toContain("belongs to another user");
  });

  it("takes this host's own folder where hosts share one", () => {
    publish({ node: "other" });
    fs.mkdirSync(path.join(folder, `node-${NODE}`), { mode: 0o700 });
    publish({ port: 1 }, 0o600, path.join(folder, `node-${NODE}`));
    expect(find().hub?.port).toBe(1);
  });

  it("writes addresses of both kinds", () => {
    expect(address(HUB)).toBe("http://127.0.0.1:47621/");
    expect(address({ ...HUB, host: "::1" })).toBe("http://[::1]:47621/");
  });
});
