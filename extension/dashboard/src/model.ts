// What the page knows, and the only place that changes it. Parts subscribe and draw; what only one tab shows has a store
// of its own.
import { tableColumns, type Columns } from "./columns";
import { CommandStore, type Command } from "./commands";
import { held, LIVE } from "./controls";
import { EvaluationStore } from "./evaluations";
import { ExploreStore } from "./explore";
import { HealthStore } from "./health";
import { NotServed, type Connection, type Hub, type Listener } from "./hub";
import { JournalStore } from "./journal";
import { LogStore } from "./logs";
import { Machine } from "./machine";
import { MapStore } from "./maps";
import { BESIDE, TILES } from "./metrics";
import type { HubEvent, Series as Table, Session } from "./protocol";
import { ReviewStore } from "./review";
import { RunStore } from "./runs";
import { SampleStore } from "./samples";
import { Series } from "./series";
import { ShownStore } from "./shown";
import { StorageStore } from "./storage";
import { TagStore } from "./tagging";

/** As many as a subscription may name. */
const MAX_METRICS = 16;
const POINTS = 2000;

const REFRESH_MS = 1000;

export class Model {
  connection: Connection = "connecting";
  /** What a person can do about the connection, where the way to the hub knows. */
  hint = "";
  /** When the connection was lost (ms). */
  lostAt = 0;
  sessions: Session[] = [];
  session: Session | null = null;
  /** The run that a person picked to look at; empty: the one that the script goes on with. */
  picked = "";
  /** `last` follows newer sessions; empty: none yet, in a notebook whose kernel has none. */
  wanted = "last";
  /** On the main chart. */
  metric = "loss";
  /** A step that a person pointed at: it is marked on the chart. */
  pointed: number | null = null;
  fault = "";
  /** The tab that is open. */
  tab = "Logs";

  readonly commands: CommandStore;
  readonly evaluations: EvaluationStore;
  readonly explore: ExploreStore;
  readonly health: HealthStore;
  readonly journal: JournalStore;
  readonly logs: LogStore;
  readonly machine: Machine;
  readonly maps: MapStore;
  readonly review: ReviewStore;
  readonly runs: RunStore;
  readonly samples: SampleStore;
  readonly shown: ShownStore;
  readonly storage: StorageStore;
  readonly tags: TagStore;

  private curves = new Map<string, Series>();
  /** By part of the page: the metrics that it shows. */
  private readonly demands = new Map<string, readonly string[]>([["chart", shownWith("loss")], ["tiles", TILES]]);
  private readonly listeners = new Set<() => void>();
  /** Run and number of its backward calls of the curves that were asked for. */
  private asked = "";
  private followed: number | null;

  /** `kernel`: in a notebook, the pid of its kernel, whose newest session is shown until a person chooses another. */
  constructor(readonly hub: Hub, readonly kernel: number | null = null) {
    this.followed = kernel;
    if (kernel !== null) this.wanted = "";
    const changed = () => { this.changed(); };
    this.journal = new JournalStore(hub, changed);
    this.commands = new CommandStore(hub, changed);
    this.logs = new LogStore(hub, changed);
    this.machine = new Machine(hub, changed);
    this.samples = new SampleStore(hub, changed);
    this.shown = new ShownStore(this.commands);
    this.tags = new TagStore(hub, changed);
    this.review = new ReviewStore(hub, this.tags, changed);
    this.runs = new RunStore(hub, () => { this.recall(); changed(); });
    this.explore = new ExploreStore(hub, changed);
    this.maps = new MapStore(hub, changed);
    this.evaluations = new EvaluationStore(hub, changed);
    this.health = new HealthStore(hub, changed);
    this.storage = new StorageStore(hub, changed);
  }

  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  start(): void {
    const listener: Listener = {
      connection: (state, hint) => {
        this.connected(state, hint);
      },
      event: (event) => {
        this.event(event);
      },
      columns: (columns) => {
        this.columns(columns);
      },
    };
    this.hub.start(listener);
    setInterval(() => {
      if (this.connection !== "open") return;
      void this.samples.refresh();
      void this.runs.refresh();
    }, REFRESH_MS);
  }

  connected(state: Connection, hint = ""): void {
    if (state === "lost" && this.connection !== "lost") this.lostAt = Date.now();
    this.connection = state;
    this.hint = hint;
    if (state === "open") {
      this.ask(this.wanted);
      void this.commands.reconnected();
    }
    this.changed();
  }

  event(event: HubEvent): void {
    switch (event.type) {
      case "snapshot":
        this.sessions = event.sessions;
        if (event.session) this.display(event.session);
        this.followKernel();
        break;
      case "session":
        this.replace(event.session);
        this.followKernel();
        break;
      case "answer":
        this.commands.settle(event.answer);
        this.shown.take(this.commands.at("show"));
        this.runs.take(this.commands.at("runs/compare"));
        break;
      case "error":
        if (!this.commands.fail(event.id ?? "", event.error)) this.fault = [event.error.message, event.error.remedy].filter(Boolean).join(": ");
        break;
      case "pong":
        break;
    }
    this.changed();
  }

  columns(columns: Columns): void {
    if (columns.header.session !== this.session?.id) return;
    if (this.picked && columns.header.run !== this.picked) return;
    if (!this.wantedMetrics().includes(columns.header.metric)) return;
    this.curve(columns.header.metric).take(columns);
    this.changed();
  }

  /** A metric's curve, as far as it has come. */
  curve(metric: string): Series {
    let curve = this.curves.get(metric);
    if (!curve) this.curves.set(metric, (curve = new Series()));
    return curve;
  }

  /** The newest loss of the run that is shown: that of the curve where its last point is one value, and no mean of several. */
  loss(curve = this.curve("loss")): number | null {
    const { value, weight } = curve.at(curve.length - 1);
    const known = this.picked ? null : (this.session?.loss ?? null);
    return curve.length && (weight === 1 || known === null) ? value : known;
  }

  /** Names of the metrics that have values; the loss always. */
  metrics(): string[] {
    const arrived = [...this.curves].filter(([, { length }]) => length > 0).map(([name]) => name);
    return [...new Set(["loss", ...(this.session?.metrics ?? []), ...arrived])];
  }

  /** Show a metric on the main chart. */
  choose(metric: string): void {
    this.metric = metric;
    this.show("chart", shownWith(metric));
    this.changed();
  }

  /** A part of the page shows these metrics from now on (none: it is closed); only what is shown is sent. */
  show(part: string, metrics: readonly string[]): void {
    const before = this.wantedMetrics();
    this.demands.set(part, metrics);
    const wanted = this.wantedMetrics();
    if (wanted.length === before.length && wanted.every((metric) => before.includes(metric))) return;
    for (const known of [...this.curves.keys()]) if (!wanted.includes(known)) this.curves.delete(known);
    if (this.connection === "open") this.ask(this.wanted);
    this.asked = "";
    this.recall();
  }

  /** The shown session, with the run that is looked at in the place of the current one. */
  get viewed(): Session | null {
    return this.session && this.picked ? { ...this.session, run: this.picked } : this.session;
  }

  /** Look at a run until another is picked; with none, at the current one, whichever that is. */
  look(run = ""): void {
    if (run === this.picked) return;
    this.picked = run;
    this.asked = "";
    this.curves = new Map();
    if (this.session) this.take(this.session);
    if (this.connection === "open" && (!run || run === this.session?.run)) this.ask(this.wanted);
    void this.samples.refresh();
    this.recall();
    this.changed();
  }

  /** Of a run that is not the current one, nothing comes by itself: its curves are asked for, again where it went on. */
  private recall(): void {
    const { session, picked } = this;
    if (!session || !picked || picked === session.run) return;
    const backwards = this.runs.recorded.find(({ name }) => name === picked)?.backwards ?? 0;
    const wanted = `${session.id} ${picked} ${backwards}`;
    if (wanted === this.asked) return;
    this.asked = wanted;
    for (const metric of this.wantedMetrics()) void this.fetch(session.id, picked, metric, wanted);
  }

  private async fetch(session: string, run: string, metric: string, wanted: string): Promise<void> {
    try {
      const table = (await this.hub.get(`sessions/${session}/metrics?name=${encodeURIComponent(metric)}&run=${run}&points=${POINTS}`)) as Table;
      if (this.asked === wanted) this.columns(tableColumns(table));
    } catch (error) {
      if (this.asked === wanted && !(error instanceof NotServed)) this.asked = ""; // the next word of the session asks again
    }
  }

  private wantedMetrics(): string[] {
    return [...new Set(["loss", ...(this.demands.get("chart") ?? []), ...[...this.demands.values()].flat()])].slice(0, MAX_METRICS);
  }

  /** Show another session, or the newest one from now on. */
  follow(session: string): void {
    this.followed = null;
    this.ask(session);
  }

  /** Delete a session that does not run; if it is shown, the newest of the others is from then on. */
  async remove(session: Session): Promise<void> {
    if (!(await this.storage.remove(session))) return;
    this.sessions = this.sessions.filter(({ id }) => id !== session.id);
    if (this.session?.id === session.id) {
      this.session = null;
      this.follow("last");
    }
    this.changed();
  }

  /** Take a bundle in, and show it. */
  async import(file: Blob, trust = false): Promise<boolean> {
    const found = await this.storage.import(file, trust);
    if (found) this.follow(found.id);
    return found !== null;
  }

  private followKernel(): void {
    if (this.followed === null) return;
    const own = this.sessions.find(({ ranks }) => ranks.some(({ pid }) => pid === this.followed));
    if (own && own.id !== this.wanted) this.ask(own.id);
  }

  private ask(session: string): void {
    this.wanted = session;
    if (session) this.hub.send({ type: "subscribe", session, metrics: this.wantedMetrics(), points: POINTS });
  }

  /** Send a command to the shown session; what becomes of it stands at that place of the page. */
  command(place: string, command: Command): void {
    this.fault = "";
    this.commands.send(place, command);
  }

  /** Pause what runs, resume what is paused. */
  toggle(): void {
    if (this.session?.state === "running" || this.session?.state === "starting") this.command("bar", { name: "pause", args: {} });
    else if (this.session?.state === "paused") this.command("bar", { name: "resume", args: {} });
  }

  /** One step, and hold again. */
  step(): void {
    if (this.session && LIVE.has(this.session.state) && !held(this.session)) this.command("bar", { name: "step", args: { steps: 1 } });
  }

  /** Keep the state of this moment. */
  keep(): void {
    if (this.session && LIVE.has(this.session.state) && !held(this.session)) this.command("bar", { name: "checkpoint", args: {} });
  }

  /** Open a tab. */
  open(tab: string): void {
    this.tab = tab;
    this.changed();
  }

  /** Mark a step on the chart; the same again: no more. */
  point(step: number): void {
    this.pointed = this.pointed === step ? null : step;
    this.changed();
  }

  private display(session: Session): void {
    if (session.id !== this.session?.id) {
      this.curves = new Map();
      this.picked = "";
      this.pointed = null;
      this.fault = "";
    }
    this.take(session);
    if (this.connection === "open") void this.samples.refresh();
  }

  private replace(session: Session): void {
    const place = this.sessions.findIndex(({ id }) => id === session.id);
    if (place < 0) this.sessions = [session, ...this.sessions];
    else this.sessions = this.sessions.map((known, at) => (at === place ? session : known));
    if (session.id === this.session?.id) this.take(session);
  }

  private take(session: Session): void {
    this.session = session;
    this.commands.follow(session.id);
    this.runs.follow(session);
    const viewed = this.viewed ?? session;
    for (const store of [this.journal, this.logs, this.samples, this.shown, this.tags, this.review, this.explore, this.maps, this.evaluations, this.health]) store.follow(viewed);
    this.recall();
  }

  private changed(): void {
    for (const listener of this.listeners) listener();
  }
}

/** A metric and what stands beside it on the main chart. */
function shownWith(metric: string): string[] {
  const beside = BESIDE.get(metric);
  return beside ? [metric, beside] : [metric];
}
