// The runs of the shown session beside what its description says: their records, their losses, how they compare, and
// what a fork that is being thought of is to train on.
import type { Asked } from "./commands";
import type { Meant, Request } from "./explore";
import { NotServed, why, type Hub } from "./hub";
import type { Comparison, Run, Runs, Selected, Series as Table, Session } from "./protocol";
import { MAX_SAMPLES } from "./selection";
import { named } from "./tagging";

const POINTS = 200;
/** With so many runs or fewer, the losses of all are asked for; of more, those that are looked at. */
const FEW = 24;
const EVERY_MS = 3000;

/** A run's losses, as few points. */
export interface Known {
  /** Backward calls that they are of. */
  backwards: number;
  values: number[];
  last: number | null;
  /** It is the mean of several. */
  mean: boolean;
}

/** What the dialog of a fork begins with. */
export interface Forking {
  select: string;
  loader: string;
  checkpoint: string;
  /** Of the selection, for a person. */
  says: string;
}

/** Which runs are compared, on what. */
export interface Side {
  runs: readonly string[];
  loader: string;
  select: string;
}

export class RunStore {
  recorded: Run[] = [];
  losses = new Map<string, Known>();
  /** In the order in which they were chosen. */
  chosen: readonly string[] = [];
  /** The one that is looked at in the graph. */
  at = "";
  comparison: Comparison | null = null;
  /** Why there is none of what was asked. */
  fault = "";
  /** What the next comparison is of, as typed. */
  on = { loader: "", select: "" };
  forking: Forking | null = null;
  merging: readonly string[] | null = null;

  private session: Session | null = null;
  private asked: Side | null = null;
  /** The command that was asked for the tests, and of what; none once its answer was taken. */
  private waits: (Side & { id: string }) | null = null;
  /** What is compared once there are so many tests: the script does some steps before it can make them. */
  private later: (Side & { tests: number }) | null = null;
  private drawn = "";
  private looked = 0;
  private busy = false;
  private watchers = 0;

  constructor(
    private readonly hub: Hub,
    private readonly changed: () => void,
  ) {}

  /** As the hub has it, whichever run is looked at. */
  follow(session: Session): void {
    if (session.id !== this.session?.id) {
      Object.assign(this, { recorded: [], losses: new Map(), chosen: [], at: "", comparison: null, fault: "", forking: null, merging: null, on: { loader: "", select: "" }, waits: null, later: null, asked: null, drawn: "" });
    }
    this.session = session;
    const { later } = this;
    if (!later || tests(session) < later.tests) return;
    this.later = null;
    void this.compare(later);
  }

  /** The losses of all that are few are asked for until the returned function is called. */
  watch(): () => void {
    this.watchers++;
    this.looked = 0;
    void this.refresh();
    return () => { this.watchers--; };
  }

  /** Ask which runs have records, if there are new ones. */
  async refresh(): Promise<void> {
    const { session } = this;
    const wanted = session ? `${session.id} ${session.backwards} ${(session.branches ?? []).length} ${this.watchers}` : "";
    if (!session || this.busy || document.hidden || wanted === this.drawn || Date.now() - this.looked < EVERY_MS) return;
    if (!session.branches?.length && !this.watchers) return;
    this.busy = true;
    this.looked = Date.now();
    try {
      const { runs } = (await this.hub.get(`sessions/${session.id}/runs`)) as Runs;
      if (session.id !== this.session?.id) return;
      [this.recorded, this.drawn] = [runs, wanted];
      this.changed();
      if (this.watchers && runs.length <= FEW) for (const { name } of runs) await this.lossOf(name);
    } catch (error) {
      if (error instanceof NotServed) this.drawn = wanted; // else the next round asks again
    } finally {
      this.busy = false;
    }
  }

  /** Choose one, or with `more` one more; again: no longer. */
  choose(run: string, more: boolean): void {
    const others = this.chosen.filter((each) => each !== run);
    const there = others.length < this.chosen.length;
    this.chosen = more ? (there ? others : [...this.chosen, run]) : there && !others.length ? [] : [run];
    this.look(run);
  }

  none(): void {
    this.chosen = [];
    this.changed();
  }

  look(run: string): void {
    this.at = run;
    this.changed();
    void this.lossOf(run);
  }

  /** Fill in how a run's loss has gone, if it has gone on since. */
  private async lossOf(run: string): Promise<void> {
    const { session } = this;
    const backwards = this.recorded.find(({ name }) => name === run)?.backwards ?? 0;
    if (!session || !backwards || this.losses.get(run)?.backwards === backwards) return;
    try {
      const table = (await this.hub.get(`sessions/${session.id}/metrics?name=loss&run=${run}&points=${POINTS}`)) as Table;
      if (session.id !== this.session?.id) return;
      const values = table.value.filter((value) => typeof value === "number");
      this.losses = new Map(this.losses).set(run, { backwards, values, last: values[values.length - 1] ?? null, mean: table.bucketed });
      this.changed();
    } catch {
      // The next round asks again; a hub that is gone shows as a lost connection.
    }
  }

  say(change: Partial<RunStore["on"]>): void {
    this.on = { ...this.on, ...change };
    this.changed();
  }

  /** These runs are tested now: when the answer to that command has come, they are compared. */
  expect(id: string, side: Side): void {
    this.waits = { id, ...side };
  }

  take(answered: Asked | null): void {
    const { waits } = this;
    if (!waits || answered?.id !== waits.id || answered.state !== "applied") return;
    this.waits = null;
    if (answered.answer?.result?.["waits"]) {
      this.later = { ...waits, tests: tests(this.session) + waits.runs.length };
      return;
    }
    const loader = answered.answer?.result?.["loader"];
    void this.compare({ ...waits, loader: typeof loader === "string" ? loader : waits.loader });
  }

  /** Put the newest tests of these runs side by side; what is shown stays until there is another. */
  async compare(asked: Side): Promise<void> {
    const { session } = this;
    if (!session) return;
    [this.asked, this.later] = [asked, null];
    const query = new URLSearchParams({ runs: asked.runs.join(","), ...(asked.loader && { loader: asked.loader }), ...(asked.select && { select: asked.select }) });
    try {
      const found = (await this.hub.get(`sessions/${session.id}/comparison?${query.toString()}`)) as Comparison;
      if (this.asked === asked) [this.comparison, this.fault] = [found, ""];
    } catch (error) {
      if (this.asked === asked) this.fault = why(error, "comparisons");
    }
    this.changed();
  }

  /** Open the dialog of a fork, as it is given or empty; null closes it. */
  fork(forking: Partial<Forking> | null): void {
    this.forking = forking && { select: "", loader: "", checkpoint: "", says: "", ...forking };
    this.changed();
  }

  /** The dialog of a merge; null closes it. */
  merge(runs: readonly string[] | null): void {
    this.merging = runs;
    this.changed();
  }

  /**
   * Open the dialog on what is selected in a list, a histogram or a map. The words of a fork are looked up in the newest
   * losses of training of the current run: what was selected otherwise is named sample by sample, or it would mean
   * others. Returns why there is no such fork; empty: the dialog is open.
   */
  async forkOn(request: Request, run: string): Promise<string> {
    const { session } = this;
    if (!session) return "";
    const { select = "", phase = "train", evaluation = "", epoch = null } = request;
    if (phase === "train" && !evaluation && epoch === null && run === session.run) {
      this.fork({ select });
      return "";
    }
    try {
      const found = (await this.hub.ask("POST", `sessions/${session.id}/selection`, { ...request, run, limit: MAX_SAMPLES })) as Selected;
      return session.id === this.session?.id ? this.open(found, `${evaluation || phase}${epoch === null ? "" : `, epoch ${epoch}`}${run === session.run ? "" : `, run ${run}`}`) : "";
    } catch (error) {
      return why(error, "selections");
    }
  }

  private open({ rows, count, select }: Selected, of: string): string {
    const found = rows as unknown as Meant[];
    const unnamed = found.filter(({ sample, identity }) => sample === null || identity !== "index").length;
    const loaders = [...new Set(found.map(({ loader }) => loader ?? ""))];
    if (!count) return "No sample is selected.";
    if (unnamed) return `Of ${unnamed} of these samples the index is not known: they cannot be forked on.`;
    if (loaders.length > 1) return `These samples are of several loaders (${loaders.join(", ")}): select those of one.`;
    if (found.length < count) return `${count} samples are too many to be named one by one (at most ${MAX_SAMPLES}): select fewer, or put a tag on them and fork on tag=NAME.`;
    this.fork({ select: named(found), loader: loaders[0] ?? "", says: `${select || "all"} (${of}), ${count} samples` });
    return "";
  }
}

function tests(session: Session | null): number {
  return session?.controls?.evaluations ?? 0;
}
