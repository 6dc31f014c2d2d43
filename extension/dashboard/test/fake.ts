// A hub that lives in the test: what was sent to it is written down, what it says is called by hand.
import type { Hub, Listener } from "../src/hub";
import { Model } from "../src/model";
import type { Columns } from "../src/columns";
import type { Learned, Recorded } from "../src/samples";
import type { ClientMessage, ExportRequest, Histogram, HubStatus, LogEntry, Session } from "../src/protocol";

export class FakeHub implements Hub {
  sent: ClientMessage[] = [];
  asked: string[] = [];
  listener: Listener | null = null;
  connected = true;
  answers = new Map<string, unknown>();
  /** Asked where `answers` has none; may throw. */
  answer: (path: string) => unknown = () => { throw new Error("no such answer"); };

  start(listener: Listener): void {
    this.listener = listener;
  }

  send(message: ClientMessage): boolean {
    if (this.connected) this.sent.push(message);
    return this.connected;
  }

  saved: string[] = [];
  save(name: string): Promise<void> {
    this.saved.push(name);
    return Promise.resolve();
  }

  /** Changes that were asked for, and what each is answered with; may throw. */
  changes: [method: string, path: string, body?: object][] = [];
  change: (method: string, path: string, body?: object) => unknown = () => ({});
  ask(method: string, path: string, body?: object): Promise<unknown> {
    this.changes.push(body ? [method, path, body] : [method, path]);
    return new Promise((resolve) => { resolve(this.change(method, path, body)); });
  }

  bundle(session: string, wanted: ExportRequest): Promise<boolean> {
    this.changes.push(["bundle", session, wanted]);
    return new Promise((resolve) => { resolve(this.change("bundle", session, wanted) !== false); });
  }

  get(path: string): Promise<unknown> {
    this.asked.push(path);
    const found = [...this.answers].find(([part]) => path.includes(part));
    return new Promise((resolve) => { resolve(found ? found[1] : this.answer(path)); });
  }
}

export function session(changes: Partial<Session> = {}): Session {
  return {
    id: "k3f9q2ma", name: "digits.py", project: "", script: "digits.py", argv: [], cwd: "/", run: "baseline", state: "running",
    since: 0, by: "", reason: "", started: 0, ended: null, step: 12, epoch: 1, backwards: 12, samples: 384, loss: 0.5,
    step_ms: 2, onthefly_us: 20, world_size: 1, ranks: [], notices: [], versions: {}, metrics: ["loss", "lr"], logs: 0,
    unsaved_since: null, unsaved_reason: "", ...changes,
  };
}

export function histogram(changes: Partial<Histogram> = {}): Histogram {
  return {
    session: "k3f9q2ma", run: "baseline", phase: "train", epoch: 1, count: 4, nonfinite: 0, low: 0, high: 2,
    edges: [0, 1, 2], counts: [3, 1], median: 0.4, certificates: { exact: 4 }, identities: { index: 4 }, lost: [], ...changes,
  };
}

/** A row of the table of samples. */
export function recorded(changes: Partial<Recorded> = {}): Recorded {
  return { sample: 7, key: null, loss: 1, step: 12, position: 3, backward: 12, valid: 1, certificate: "exact", identity: "index", ...changes };
}

/** A row of the training dynamics. */
export function learned(changes: Partial<Learned> = {}): Learned {
  return {
    sample: 7, key: null, count: 5, epochs: 5, loss_mean: 1.5, loss_variance: 0.25, loss_last: 0.5, loss_min: 0.5, loss_max: 3,
    forgetting: 1, learned: 2, confidence: 0.3, variability: 0.1, margin: -0.75, ...changes,
  };
}

/** A model that is connected and shows a session. */
export function shown(changes: Partial<Session> = {}): { hub: FakeHub; model: Model } {
  const hub = new FakeHub();
  const model = new Model(hub);
  model.connected("open");
  model.event({ type: "snapshot", session: session(changes), sessions: [session(changes)], cursor: "0" });
  return { hub, model };
}

export function entry(row: number, text: string, changes: Partial<LogEntry> = {}): LogEntry {
  return { row, time: row, rank: 0, stream: "stdout", text, ...changes };
}

export function status(changes: Partial<HubStatus> = {}): HubStatus {
  return {
    version: "1.0", protocol: 1, python: "3.12", duckdb: "1.4", pid: 7, node: "box", port: 47621, started: 0, cpu: 1.5,
    rss: 120, clients: 1, agents: 1, sessions: 2, data_dir: "/data", free: 70_000, ...changes,
  };
}

/** A message with a metric's values, as the hub sends it. */
export function columns(rows: Record<string, number[]>, reset = true, metric = "loss"): Columns {
  return {
    header: { session: "k3f9q2ma", run: "baseline", metric, reset, cursor: "0", columns: [] },
    arrays: new Map(Object.entries(rows).map(([name, values]) => [name, Float64Array.from(values)])),
  };
}
