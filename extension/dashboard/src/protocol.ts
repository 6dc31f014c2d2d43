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

/** A run that goes on from a step of another, or was made of several. */
export interface Branch {
  run: string;
  parent: string;
  step: number;
  kind?: "" | "fork" | "merge" | "reset" | "resume" | "rewind";
  parents?: string[];
  checkpoint?: string;
  selection?: string;
  samples?: number;
  loader?: string;
  changes?: Record<string, unknown>;
  budget?: string;
  strategy?: string;
  verdict?: string;
  trained?: number;
  by?: string;
  time?: number;
}

/** End the test, scan or health check that runs, keeping its results so far; else forget pauses set for later. */
export interface Cancel {
}

/** Keep the state of this moment, in memory to go back to and on disk. */
export interface Checkpoint {
  name?: string;
}

/** A checkpoint that is kept. */
export interface CheckpointInfo {
  name: string;
  run: string;
  step: number;
  epoch: number;
  time: number;
  why: "asked" | "end" | "every" | "pause" | "run" | "signal" | "trial";
  memory: number;
  disk: number;
  state: "durable" | "failed" | "memory" | "writing";
  fault?: string;
  back?: boolean;
  reason?: string;
  resume?: string;
}

/** How the script goes on after a trial: with the change, without it, or from before both (``neither``). */
export interface Choose {
  keep: "neither" | "with" | "without";
}

/** Clip gradients before each step, by their norm or each by value; with neither, clip no more. */
export interface Clip {
  norm?: number | null;
  value?: number | null;
}

/** Samples whose embeddings lie near each other. */
export interface Cluster {
  number: number;
  count: number;
  loss: number | null;
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

/** At a pause: test several runs on the same samples; ``GET .../comparison`` puts them side by side. */
export interface Compare {
  runs: string[];
  loader?: string;
}

/** One run on one part of the samples. */
export interface Compared {
  loss: number | null;
  accuracy?: number | null;
  difference?: number | null;
  low?: number | null;
  high?: number | null;
  wins?: number;
  losses?: number;
}

/** One part of the samples. */
export interface ComparedPart {
  name: string;
  count: number;
  runs: Compared[];
}

/** One of the runs side by side. */
export interface ComparedRun {
  run: string;
  evaluation: string;
  step: number;
}

/** ``GET /api/v1/sessions/{id}/comparison?runs&loader&select``: the newest tests of these runs side by side. */
export interface Comparison {
  session: string;
  loader: string;
  runs: ComparedRun[];
  parts: ComparedPart[];
  select?: string;
  verdict: string;
}

/** All of it; sent whole whenever something changed. */
export interface Controls {
  pauses?: PlannedPause[];
  groups?: ParameterGroup[];
  clip?: string;
  frozen?: string[];
  frozen_parameters?: number;
  subset?: SubsetInfo | null;
  checkpoints?: CheckpointInfo[];
  keep?: Record<string, unknown>;
  watches?: WatchInfo[];
  findings?: Finding[];
  trial?: TrialInfo | null;
  progress?: ProgressInfo | null;
  evaluations?: number;
  runs?: RunState[];
}

/** At a pause: run the script's next step again, and name the first operation whose result is not finite. */
export interface Diagnose {
}

/** Delete a checkpoint. */
export interface Drop {
  checkpoint: string;
}

/** The body of every HTTP error. */
export interface ErrorAnswer {
  error: Fault;
}

/** One test or scan. */
export interface EvaluationInfo {
  kind: "scan" | "test";
  label: string;
  run: string;
  step: number;
  epoch: number;
  loader: string;
  mode: "eval" | "train";
  checkpoint?: string;
  by: string;
  began: number;
  seconds: number;
  count: number;
  partial?: boolean;
  reason?: string;
  how: string;
  verified?: boolean;
  result?: Record<string, unknown>;
  embeddings?: number;
}

/** ``GET /api/v1/sessions/{id}/evaluations``: in the order in which they were made. */
export interface Evaluations {
  session: string;
  evaluations: EvaluationInfo[];
}

/** ``POST /api/v1/sessions/{id}/export``: the session as one file, a bundle (``.otf``). */
export interface ExportRequest {
  runs?: string[];
  checkpoints?: string[];
  samples?: boolean;
  logs?: boolean;
  script?: boolean;
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

/** Something that a watchdog found, newest last. */
export interface Finding {
  alarm: string;
  step: number;
  time: number;
  text: string;
  flight?: string;
}

/** At a pause: train a run of its own, by the script's own step; the script's loop stands still meanwhile. */
export interface Fork {
  name?: string;
  checkpoint?: string;
  select?: string;
  samples?: number[];
  loader?: string;
  steps?: number | null;
  epochs?: number | null;
  minutes?: number | null;
  settings?: Record<string, number | number[]>;
  optimizer?: number;
  seed?: number;
  parallel?: boolean;
}

/** Keep parameters as they are, by name: ``encoder.*``; their gradients are left out of each step. */
export interface Freeze {
  pattern: string;
}

/** At a pause: examine the run, by all checks or by those named; some of them let the script take one step. */
export interface Health {
  checks?: string[];
  seconds?: number;
}

/** What one check has found at one moment. */
export interface HealthResult {
  check: string;
  verdict: "bad" | "good" | "unknown" | "warning";
  says: string;
  do?: string;
  numbers?: Record<string, boolean | number | string | null>;
  rows?: (Record<string, boolean | number | string | null>)[];
  run?: string;
  step?: number;
  epoch?: number;
  time?: number;
  by?: string;
  examination?: number;
  rank?: number;
}

/** ``GET /api/v1/sessions/{id}/health``: in the order in which they came; ranks that can be compared as one. */
export interface HealthResults {
  session: string;
  results: HealthResult[];
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
  quantiles?: Record<string, number>;
  certificates: Record<string, number>;
  identities: Record<string, number>;
  lost: Lost[];
  phases?: ("scan" | "test" | "train" | "valid")[];
}

/** ``GET .../history?sample|key&loader&run&phase``: the presentations of one sample, oldest first. */
export interface History {
  session: string;
  run: string;
  sample: number | null;
  key: string | null;
  epoch: number[];
  step: number[];
  loss: (number | string)[];
  confidence: (number | null)[];
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

/** ``GET /api/v1/sessions/{id}/journal``: in the order in which things were done. */
export interface Journal {
  session: string;
  entries: JournalEntry[];
}

/** One change, after it was made. ``point`` counts the pause points passed: it tells apart two optimizers' steps. */
export interface JournalEntry {
  time: number;
  run: string;
  step: number;
  epoch: number;
  backward: number;
  point: number;
  name: string;
  args: Record<string, unknown>;
  before: Record<string, unknown>;
  after: Record<string, unknown>;
  by: string;
  rank?: number;
}

/** When checkpoints are made by themselves, and how many bytes they may take. */
export interface Keep {
  every?: number | null;
  seconds?: number | null;
  on_pause?: boolean | null;
  on_signal?: ("SIGHUP" | "SIGINT" | "SIGQUIT" | "SIGTERM" | "SIGUSR1" | "SIGUSR2" | "SIGXCPU")[] | null;
  memory?: number | null;
  disk?: number | null;
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

/** ``GET .../losses?run&first&limit``: what backward calls of the script itself propagated, bit for bit, in order. Up to the first change that somebody made (a rate that was set, a clipped gradient, a subset): a process that goes on from before it does not repeat that. */
export interface Losses {
  session: string;
  run: string;
  backward: number[];
  step: number[];
  loss: string[];
}

/** Backward calls whose samples were not captured, by reason. */
export interface Lost {
  reason: string;
  backwards: number;
}

/** At a pause: make one model of several runs; it is taken where it is not worse than its parents. */
export interface Merge {
  strategy: string;
  runs: string[];
  name?: string;
  weights?: number[];
  loader?: string;
  parameters?: Record<string, number>;
  optimizer?: "keep" | "mean" | "reset";
  seed?: number;
  force?: boolean;
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

/** One parameter group of an optimizer, as it was when the script was last held or a command was done. */
export interface ParameterGroup {
  optimizer: number;
  kind: string;
  group: number;
  parameters: number;
  values: Record<string, number | number[]>;
}

/** Opens the page once, in a frame at ``/?pass=<text>``; ``POST /api/v1/token`` takes it for the token. */
export interface Pass {
  text: string;
  seconds?: number;
}

/** Hold the script: after the step that runs, or at a later moment; several moments may be set at once. */
export interface Pause {
  step?: number | null;
  epoch?: number | null;
  when?: string;
  because?: string;
  release?: boolean;
}

/** ``POST /api/v1/sessions/{id}/pin``: keep the session whatever the budget, or no longer. */
export interface PinRequest {
  pinned?: boolean;
}

/** Answered with :class:`Pong`. */
export interface Ping {
  type: "ping";
}

/** A pause at a later moment. */
export interface PlannedPause {
  text: string;
  by: string;
}

/** Answer to :class:`Ping`. */
export interface Pong {
  type: "pong";
}

/** How far something has come that takes a while. */
export interface ProgressInfo {
  what: string;
  done: number;
  of: number;
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
  start?: number;
}

/** The proof of a resume: its first steps, compared bit by bit with those that were recorded before. */
export interface ReceiptInfo {
  session: string;
  run: string;
  from_run: string;
  from_step: number;
  compared: number;
  equal: number;
  expected?: number;
  first_difference?: string;
  text: string;
  time: number;
}

/** Go back to the first step, in place, if a checkpoint of then is in memory; as run ``baseline-2``, ... */
export interface Reset {
}

/** Let the script go on. */
export interface Resume {
}

/** Go back to a checkpoint of this epoch, in place; the script stays paused. */
export interface Rewind {
  checkpoint?: string;
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

/** A run that this process holds. */
export interface RunState {
  run: string;
  current: boolean;
  step: number;
  checkpoint?: string;
  back?: boolean;
  reason?: string;
}

/** ``GET /api/v1/sessions/{id}/runs``. */
export interface Runs {
  runs: Run[];
}

/** ``GET .../map?evaluation&method&clusters&points``: embeddings in two dimensions; columns of one length. */
export interface SampleMap {
  session: string;
  run: string;
  evaluation: string;
  method: string;
  loader: string;
  total: number;
  explained: number | null;
  evaluations: string[];
  sample: (number | null)[];
  key: (string | null)[];
  x: number[];
  y: number[];
  loss: (number | null)[];
  target: (number | null)[];
  predicted: (number | null)[];
  cluster: number[];
  clusters: Cluster[];
}

/** The loss of every sample of a loader, under the weights of now or of a checkpoint. */
export interface Scan {
  loader?: string;
  mode?: "eval" | "train";
  checkpoint?: string;
  samples?: number[];
  module?: string;
  using?: "" | "framework" | "recipe" | "registered";
}

/** ``GET .../selection?select&run&phase&evaluation&epoch&limit``: the samples meant, the highest loss first. */
export interface Selected {
  session: string;
  run: string;
  phase: "scan" | "test" | "train" | "valid";
  evaluation: string;
  epoch: number | null;
  select: string;
  count: number;
  says: string;
  rows: Record<string, unknown>[];
  file?: string;
}

/** ``POST /api/v1/sessions/{id}/selection``. */
export interface SelectionRequest {
  select?: string;
  run?: string;
  phase?: "scan" | "test" | "train" | "valid";
  evaluation?: string;
  epoch?: number | null;
  clusters?: number;
  limit?: number | null;
  what?: "indices" | "rows";
  format?: "" | "arrow" | "csv" | "json" | "parquet";
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
  journal?: number;
  health?: number;
  unsaved_since?: number | null;
  unsaved_reason?: string;
  branches?: Branch[];
  pinned?: boolean;
  controls?: Controls;
  resumed?: number | null;
  receipts?: ReceiptInfo[];
}

/** A session is new or changed; sent for every session, at most some ten times a second each. */
export interface SessionChanged {
  type: "session";
  session: Session;
}

/** What a session takes on the disk. */
export interface SessionStorage {
  id: string;
  bytes: number;
  checkpoints: number;
  pinned: boolean;
  kept: string;
}

/** ``GET /api/v1/sessions``: newest start first. */
export interface Sessions {
  sessions: Session[];
}

/** Set a number of an optimizer's parameter groups: ``lr``, ``weight_decay``, ``momentum``, ``betas``, ... */
export interface Set {
  name: string;
  value: number | number[];
  group?: number;
  optimizer?: number;
}

/** At a pause: read these samples from a loader's data set, and describe them so that they can be drawn. */
export interface Show {
  samples: number[];
  loader?: string;
  size?: number;
}

/** The state of the world; sent first, after each subscription, and after a client fell behind. */
export interface Snapshot {
  type: "snapshot";
  session: Session | null;
  sessions: Session[];
  cursor: string;
}

/** Let the script do so many steps, and hold it again. */
export interface Step {
  steps?: number;
}

/** End the script: by an exception at its next pause point, so that its ``finally`` and ``atexit`` run. */
export interface Stop {
  now?: boolean;
}

/** ``GET /api/v1/storage``: what all sessions take, newest start first. */
export interface Storage {
  sessions: SessionStorage[];
  bytes: number;
  budget: number;
  free: number;
  place: string;
}

/** Follow one session; answered with a :class:`Snapshot` and its columns. Replaces the one before. */
export interface Subscribe {
  type: "subscribe";
  session: string;
  metrics?: string[];
  points?: number;
}

/** Which samples are drawn from now on, by their index in the data set. */
export interface Subset {
  mode: "all" | "exclude" | "include" | "weights";
  samples?: number[];
  weights?: number[];
  loader?: string;
  add?: boolean;
}

/** Which samples are drawn. */
export interface SubsetInfo {
  mode: "exclude" | "include" | "weights";
  count: number;
  loader: string;
  since: number;
}

/** At a pause: go on with another run, from its own state, where it was left. */
export interface Switch {
  run: string;
}

/** One sample's. */
export interface Tag {
  loader: string;
  sample: number | null;
  key: string | null;
  tag: string;
  by: string;
  time: number;
}

/** ``POST`` (put on) or ``DELETE`` (take off) ``/api/v1/sessions/{id}/tags``. */
export interface TagRequest {
  tag: string;
  samples?: number[];
  keys?: string[];
  loader?: string;
  by?: string;
}

/** ``GET /api/v1/sessions/{id}/tags``, in the order in which they were put on; and what a change has done. */
export interface Tags {
  session: string;
  tags: Tag[];
  counts: Record<string, number>;
  changed?: number;
}

/** How good the model is now, on the samples of a loader; the script does a step or two where it must. */
export interface Test {
  loader?: string;
  mode?: "eval" | "train";
  checkpoint?: string;
  using?: "" | "framework" | "recipe" | "registered";
}

/** From here, so many steps without a change and so many with it on the same data; then it waits for ``choose``. */
export interface Trial {
  steps: number;
  name: "clip" | "freeze" | "set" | "unfreeze";
  args?: Record<string, unknown>;
}

/** A trial: the same steps without and with a change. */
export interface TrialInfo {
  steps: number;
  change: string;
  phase: "choose" | "over" | "with" | "without";
  start: number;
  without?: (number | null)[];
  changed?: (number | null)[];
  effect?: number | null;
  low?: number | null;
  high?: number | null;
  verdict?: string;
}

/** Let parameters train that :class:`Freeze` keeps. */
export interface Unfreeze {
  pattern?: string;
}

/** What a watchdog does when it finds something. */
export interface Watch {
  alarm: string;
  action: "log" | "off" | "pause" | "rewind";
  parameters?: Record<string, number>;
}

/** A watchdog, and what it does. */
export interface WatchInfo {
  alarm: string;
  text: string;
  cost: string;
  action: "log" | "off" | "pause" | "rewind";
  parameters?: Record<string, number>;
  found?: number;
}

export type ClientMessage = Subscribe | SendCommand | Ping;

export type HubEvent = Snapshot | SessionChanged | CommandAnswered | Failed | Pong;
