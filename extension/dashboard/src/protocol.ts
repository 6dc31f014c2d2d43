// Generated from onthefly/protocol.py by `make types`. Do not edit.

/** ``POST /api/v1/token``, with a :class:`Pass`: what the page needs in the place of a login. */
export interface Admitted {
  token: string;
  pid: number;
}

/** What became of a command. The same ``id`` always gets the same answer. */
export interface Answer {
  id: string;
  n: number;
  status: "accepted" | "applied" | "busy" | "failed" | "refused";
  step?: number;
  durability?: "accepted" | "durable" | "saved";
  reason?: string;
  remedy?: string;
  result?: Record<string, unknown>;
}

/** One array of a binary message. */
export interface Column {
  name: string;
  dtype: "f4" | "f8" | "i4" | "i8" | "u1";
  count: number;
}

/** The JSON header of a binary message: u32 header length, header, padding to 8, then each array padded to 8. ``step``, ``epoch``, ``time``, ``value`` always; ``low`` and ``high`` in a history of buckets. */
export interface ColumnsHeader {
  session: string;
  run: string;
  metric: string;
  reset: boolean;
  cursor: string;
  columns: Column[];
}

/** What became of a command; sent first as accepted, then once with its end. */
export interface CommandAnswered {
  type: "answer";
  session: string;
  answer: Answer;
}

/** ``POST /api/v1/sessions/{id}/commands``. */
export interface CommandRequest {
  id: string;
  name: string;
  args?: Record<string, unknown>;
  by?: string;
}

/** The body of every HTTP error. */
export interface ErrorAnswer {
  error: Fault;
}

/** A message of the client that was not understood. */
export interface Failed {
  type: "error";
  error: Fault;
  id?: string;
}

/** Why a request was not served. */
export interface Fault {
  code: string;
  message: string;
  remedy?: string;
}

/** ``GET .../histogram?run&epoch&phase&bins``: the per-sample losses of one epoch (default: the newest). */
export interface Histogram {
  session: string;
  run: string;
  phase: "scan" | "test" | "train" | "valid";
  epoch: number;
  count: number;
  nonfinite: number;
  low: number;
  high: number;
  edges: number[];
  counts: number[];
  median: number | null;
  certificates: Record<string, number>;
  identities: Record<string, number>;
  lost: Lost[];
  phases?: ("scan" | "test" | "train" | "valid")[];
}

/** ``GET /api/v1/hub``: the hub itself, and what watching costs this machine outside of the script. */
export interface HubStatus {
  version: string;
  protocol: number;
  python: string;
  duckdb: string;
  pid: number;
  node: string;
  port: number;
  started: number;
  cpu: number;
  rss: number;
  clients: number;
  agents: number;
  sessions: number;
  data_dir: string;
  free: number;
}

/** Something that the script wrote: one or more lines, or a state of a progress bar. */
export interface LogEntry {
  row: number;
  time: number;
  rank: number;
  stream: "stderr" | "stdout";
  text: string;
}

/** ``GET .../logs?after&before&limit&search``: entries in the order of writing. Without ``after`` and ``before`` the newest; ``after`` (a cursor) what came since; ``before`` (a row) what stands before it. With ``search``, only entries that contain the text (letter case ignored). */
export interface Logs {
  session: string;
  entries: LogEntry[];
  cursor: string;
  earlier: boolean;
}

/** Backward calls whose samples were not captured, by reason. */
export interface Lost {
  reason: string;
  backwards: number;
}

/** A :class:`Noticed` as clients see it. */
export interface Notice {
  text: string;
  remedy: string;
  time: number;
  rank: number;
}

/** ``POST /api/v1/origins``: answer to that origin as well, until the hub ends; a proxy stands in front of it. */
export interface OriginRequest {
  origin: string;
}

/** Opens the page once, in a frame at ``/?pass=<text>``; ``POST /api/v1/token`` takes it for the token. */
export interface Pass {
  text: string;
  seconds?: number;
}

/** Answered with :class:`Pong`. */
export interface Ping {
  type: "ping";
}

/** Answer to :class:`Ping`. */
export interface Pong {
  type: "pong";
}

/** One process of a session. */
export interface Rank {
  rank: number;
  pid: number;
  node: string;
  connected: boolean;
  step: number;
  name?: string;
  state?: "crashed" | "ended" | "imported" | "lost" | "paused" | "pausing" | "running" | "starting" | "stopped";
  trains?: boolean;
}

/** A line of training within a session. */
export interface Run {
  name: string;
  parents: string[];
  started: number;
  backwards: number;
  samples: number;
  first_step: number;
  last_step: number;
}

/** ``GET /api/v1/sessions/{id}/runs``. */
export interface Runs {
  runs: Run[];
}

/** The same as :class:`CommandRequest`, over the socket; answered with :class:`CommandAnswered`. */
export interface SendCommand {
  type: "command";
  session: string;
  id: string;
  name: string;
  args?: Record<string, unknown>;
  by?: string;
}

/** ``GET .../metrics?name&run&after&points``: one metric, at most ``points`` buckets (min and max kept). A bucket that holds a single value has ``low == value == high``. */
export interface Series {
  session: string;
  run: string;
  name: string;
  cursor: string;
  bucketed: boolean;
  step: number[];
  epoch: number[];
  time: number[];
  value: (number | "-inf" | "inf" | "nan")[];
  low: (number | "-inf" | "inf" | "nan")[];
  high: (number | "-inf" | "inf" | "nan")[];
}

/** A session as clients see it. */
export interface Session {
  id: string;
  name: string;
  project: string;
  script: string;
  argv: string[];
  cwd: string;
  run: string;
  state: "crashed" | "ended" | "imported" | "lost" | "paused" | "pausing" | "running" | "starting" | "stopped";
  since: number;
  by: string;
  reason: string;
  started: number;
  ended: number | null;
  step: number;
  epoch: number;
  backwards: number;
  samples: number;
  loss: number | null;
  step_ms: number | null;
  onthefly_us: number | null;
  world_size: number;
  ranks: Rank[];
  notices: Notice[];
  versions: Record<string, string>;
  metrics?: string[];
  logs?: number;
  unsaved_since?: number | null;
  unsaved_reason?: string;
}

/** A session is new or changed; sent for every session, at most some ten times a second each. */
export interface SessionChanged {
  type: "session";
  session: Session;
}

/** ``GET /api/v1/sessions``: newest start first. */
export interface Sessions {
  sessions: Session[];
}

/** The state of the world; sent first, after each subscription, and after a client fell behind. */
export interface Snapshot {
  type: "snapshot";
  session: Session | null;
  sessions: Session[];
  cursor: string;
}

/** Follow one session; answered with a :class:`Snapshot` and its columns. Replaces the one before. */
export interface Subscribe {
  type: "subscribe";
  session: string;
  metrics?: string[];
  points?: number;
}

export type ClientMessage = Subscribe | SendCommand | Ping;

export type HubEvent = Snapshot | SessionChanged | CommandAnswered | Failed | Pong;
