// Where the hub is: its file in the user's runtime folder, read by the rules of onthefly/link/discovery.py. Nothing is made or
// changed here, and what others could have written or read is not used.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";

/** The protocol that this extension speaks. A later one has a file of its own beside this one's. */
const PROTOCOL = 1;
const FILE = "hub.json";
const MAX_BYTES = 64 * 1024;

export interface HubFile {
  pid: number;
  node: string;
  host: string;
  port: number;
  token: string;
  version: string;
  protocol: number;
}

/** A hub whose process is alive, or why there is none, in words for a person. */
export type Found = { hub: HubFile } | { hub: null; reason: string };

export type Environment = Readonly<Record<string, string | undefined>>;

export const NO_HUB = "No hub is running.";

export function runtimeFolder(env: Environment, platform: NodeJS.Platform = process.platform): string {
  if (env["ONTHEFLY_RUNTIME_DIR"]) return env["ONTHEFLY_RUNTIME_DIR"];
  if (env["XDG_RUNTIME_DIR"]) return path.join(env["XDG_RUNTIME_DIR"], "onthefly");
  const user = platform === "win32" ? (env["USERNAME"] ?? "user") : String(process.getuid?.());
  return path.join(temporary(env), `onthefly-${user}`);
}

/** As Python's `tempfile` looks for it. */
function temporary(env: Environment): string {
  return [env["TMPDIR"], env["TEMP"], env["TMP"]].find((folder) => folder && fs.existsSync(folder)) ?? os.tmpdir();
}

export function findHub(env: Environment, node = os.hostname()): Found {
  try {
    const hub = read(ownFolder(runtimeFolder(env), node));
    if (hub?.node !== node || hub.protocol !== PROTOCOL || !alive(hub.pid)) return { hub: null, reason: NO_HUB };
    return { hub };
  } catch (error) {
    if (error instanceof Unsafe) return { hub: null, reason: error.message };
    return { hub: null, reason: NO_HUB }; // not there, or not whole
  }
}

/** Something that others may have written, or may read. The message says what to do. */
class Unsafe extends Error {}

/** Where hosts share a runtime folder, each but the first has a folder of its own in it. */
function ownFolder(shared: string, node: string): string {
  check(shared, "the runtime folder");
  const own = path.join(shared, `node-${node.replace(/[^A-Za-z0-9.-]/g, "_")}`);
  if (!fs.existsSync(own)) return shared;
  check(own, "the runtime folder");
  return own;
}

function check(place: string, what: string): fs.Stats {
  const status = fs.lstatSync(place);
  const uid = process.getuid?.();
  if (status.isSymbolicLink()) throw new Unsafe(`Not connected: ${what} ${place} is a link. Remove it, or set ONTHEFLY_RUNTIME_DIR.`);
  if (uid !== undefined && status.uid !== uid) throw new Unsafe(`Not connected: ${what} ${place} belongs to another user. Set ONTHEFLY_RUNTIME_DIR.`);
  if (uid !== undefined && (status.mode & 0o077) !== 0) throw new Unsafe(`Not connected: others may look into ${place}. Close it with: chmod go= ${place}`);
  return status;
}

function read(folder: string): HubFile | null {
  const place = path.join(folder, FILE);
  if (check(place, "the file").size > MAX_BYTES) return null;
  const descriptor = fs.openSync(place, fs.constants.O_RDONLY | (process.platform === "win32" ? 0 : fs.constants.O_NOFOLLOW));
  try {
    const found: unknown = JSON.parse(fs.readFileSync(descriptor, "utf8"));
    return isHubFile(found) ? found : null;
  } finally {
    fs.closeSync(descriptor);
  }
}

function isHubFile(found: unknown): found is HubFile {
  if (typeof found !== "object" || found === null) return false;
  const fields = found as Record<string, unknown>;
  return (
    ["pid", "port", "protocol"].every((name) => Number.isSafeInteger(fields[name]) && Number(fields[name]) > 0) &&
    ["node", "host", "token", "version"].every((name) => typeof fields[name] === "string" && fields[name] !== "")
  );
}

function alive(pid: number): boolean {
  if (process.platform === "win32") return true; // no cheap test; a connection decides
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, "latin1");
    return stat.slice(stat.lastIndexOf(")") + 2).charAt(0) !== "Z";
  } catch {
    return true; // no /proc here: it exists, and that is all there is to know
  }
}

/** `http://127.0.0.1:47621/`. */
export function address({ host, port }: HubFile): string {
  return `http://${host.includes(":") ? `[${host}]` : host}:${port}/`;
}
