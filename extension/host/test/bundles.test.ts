import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { CheckpointInfo } from "../../dashboard/src/protocol";
import { Bundles } from "../src/bundles";
import { Sessions } from "../src/sessions";
import { FakeEditor, session } from "./fake";

let editor: FakeEditor;
let sessions: Sessions;
let bundles: Bundles;
let shown: string[];
let folder: string;

beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), "onthefly-bundles-"));
  [editor, shown] = [new FakeEditor(), []];
  sessions = new Sessions(() => ({ hub: null, reason: "" }));
  bundles = new Bundles(editor, sessions, (id) => { shown.push(id); });
});
afterEach(() => {
  vi.restoreAllMocks();
  fs.rmSync(folder, { recursive: true, force: true });
});

const buffer = (text: string) => new TextEncoder().encode(text).buffer as ArrayBuffer;
const refused = (code: string) => ({ ok: false, body: buffer(JSON.stringify({ error: { code, message: "run.otf holds pickled objects", remedy: "trust it" } })) });

describe("export of a bundle", () => {
  it("streams what was chosen into the file that was named", async () => {
    const download = vi.spyOn(sessions.connection, "download").mockResolvedValue(new Response("PK whole"));
    const place = path.join(folder, "a.otf");
    editor.answers = [1, place];
    await bundles.export(session());
    expect(download).toHaveBeenCalledWith("sessions/k3f9q2ma/export", { checkpoints: ["newest"] });
    expect(fs.readFileSync(place, "utf8")).toBe("PK whole");
    expect(editor.said).toEqual([["info", `${place}: 8 bytes.`]]);
  });

  it("leaves the old file and nothing else where it breaks off, and says the hub's words", async () => {
    const place = path.join(folder, "a.otf");
    fs.writeFileSync(place, "old");
    const broken = new ReadableStream({ start(control) { control.enqueue(new Uint8Array(9)); control.error(new Error("cut")); } });
    const download = vi.spyOn(sessions.connection, "download").mockResolvedValue(new Response(broken));
    editor.answers = [0, place];
    await expect(bundles.export(session())).rejects.toThrow("cut");
    expect(fs.readdirSync(folder)).toEqual(["a.otf"]);
    expect(fs.readFileSync(place, "utf8")).toBe("old");
    download.mockResolvedValue(new Response(refused("x").body, { status: 409 }));
    editor.answers = [0, place];
    await expect(bundles.export(session())).rejects.toThrow("run.otf holds pickled objects: trust it");
    editor.answers = [0, undefined];
    await bundles.export(session());
    expect(download).toHaveBeenCalledTimes(2);
  });
});

describe("import of a bundle", () => {
  it("shows what it became; asks for trust only where that is needed", async () => {
    const place = path.join(folder, "run.otf");
    fs.writeFileSync(place, "PK");
    const upload = vi.spyOn(sessions.connection, "upload").mockImplementation((to) => Promise.resolve(to.includes("trust") ? { ok: true, body: buffer('{"id": "bbbbbbbb"}') } : refused("untrusted")));
    editor.answers = [place, false];
    await bundles.import();
    expect([upload.mock.calls.length, shown]).toEqual([1, []]);
    editor.answers = [place, true];
    await bundles.import();
    expect([upload.mock.calls.map(([to]) => to), shown]).toEqual([["import", "import", "import?trust=yes"], ["bbbbbbbb"]]);
    upload.mockResolvedValue(refused("damaged"));
    editor.answers = [place];
    await expect(bundles.import()).rejects.toThrow("trust it");
    editor.answers = [undefined];
    await bundles.import();
    expect(upload).toHaveBeenCalledTimes(4);
  });
});

describe("delete", () => {
  it("only after a yes, and never what runs", async () => {
    const ask = vi.spyOn(sessions.connection, "ask").mockResolvedValue({ ok: true, body: buffer("{}") });
    sessions.all = [session({ state: "ended" })];
    await bundles.remove(session());
    editor.answers = [false];
    await bundles.remove(session({ state: "ended" }));
    expect(ask).not.toHaveBeenCalled();
    expect(editor.said).toEqual([["warning", "train.py is running: stop it first."]]);
    editor.answers = [true];
    await bundles.remove(session({ state: "ended" }));
    expect(ask).toHaveBeenCalledWith("sessions/k3f9q2ma", undefined, "DELETE");
    expect(sessions.all).toEqual([]);
    ask.mockResolvedValue(refused("refused"));
    editor.answers = [true];
    await expect(bundles.remove(session({ state: "ended" }))).rejects.toThrow("trust it");
  });
});

describe("the command that resumes", () => {
  it("is that of the newest checkpoint that can be resumed", async () => {
    const checkpoint = (changes: Partial<CheckpointInfo>): CheckpointInfo => ({ name: "a", run: "baseline", step: 40, epoch: 1, time: 1, why: "every", memory: 0, disk: 9, state: "durable", resume: "", ...changes });
    await bundles.copyResume(session({ state: "ended", controls: { checkpoints: [checkpoint({}), checkpoint({ step: 80, time: 2, resume: "a thread trains" })] } }));
    expect(editor.copied).toBe("onthefly run --resume k3f9q2ma@baseline:40");
    editor.copied = "";
    await bundles.copyResume(session({ state: "ended" }));
    expect(editor.copied).toBe("");
    expect(editor.said.at(-1)?.[1]).toContain("has no checkpoint that another process can go on from");
  });
});
