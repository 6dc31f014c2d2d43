// The runs of a session as a graph: what each began from, and where it stands on the page (laid out by dagre).
import { Graph, layout as arrange, type EdgeLabel, type GraphLabel, type NodeLabel } from "@dagrejs/dagre";
import { controlled, LIVE } from "./controls";
import * as format from "./format";
import type { Branch, Run, Session } from "./protocol";

/** A run, as far as it is known. */
export interface Node {
  run: string;
  parents: string[];
  /** In a word; of what began with the script, none. */
  kind: string;
  /** Finished steps; null where nobody has said. */
  step: number | null;
  current: boolean;
  /** The script's process holds its state. */
  held: boolean;
  /** Why it cannot be switched to; empty: it can. */
  reason: string;
  branch: Branch | null;
}

const KINDS: Record<NonNullable<Branch["kind"]>, string> = { "": "branch", rewind: "rewind", reset: "reset", resume: "resume", fork: "fork", merge: "merge" };

/** All runs that anything is known of, parents first as far as they came so. `recorded`: those with records. */
export function lineage(session: Session, recorded: readonly Run[]): Node[] {
  const branches = new Map((session.branches ?? []).map((branch) => [branch.run, branch]));
  const states = new Map(controlled(session).runs.map((state) => [state.run, state]));
  const rows = new Map(recorded.map((row) => [row.name, row]));
  const parents = (branch: Branch) => [...new Set(branch.parents?.length ? branch.parents : [branch.parent])].filter((name) => name && name !== branch.run);
  const names = new Set([...rows.keys(), ...[...branches.values()].flatMap((branch) => [...parents(branch), branch.run]), ...states.keys(), session.run]);
  return [...names].filter(Boolean).map((run) => {
    const [branch, state, row] = [branches.get(run) ?? null, states.get(run), rows.get(run)];
    const current = run === session.run;
    const trained = branch ? branch.step + (branch.trained ?? 0) : null;
    return {
      run, branch, current, parents: branch ? parents(branch) : [], kind: branch ? KINDS[branch.kind ?? ""] : "",
      step: current ? session.step : (state?.step ?? (row ? row.last_step + 1 : trained)),
      held: current ? LIVE.has(session.state) : state !== undefined, reason: unreachable(session, run, state?.back, state?.reason),
    };
  });
}

function unreachable(session: Session, run: string, back: boolean | undefined, reason = ""): string {
  if (run === session.run) return "it is the run that the script goes on with";
  if (!LIVE.has(session.state)) return "the script has ended";
  if (back === undefined) return "the script's process holds no state of it";
  if (session.state !== "paused") return "pause the script first";
  return back ? "" : reason || "no way back now";
}

/** Why these runs cannot be tested side by side, or merged; empty: they can. */
export function unfit(session: Session, chosen: readonly Node[]): string {
  if (chosen.length < 2) return "choose two runs or more";
  if (chosen.length > MAX_RUNS) return `at most ${MAX_RUNS} runs`;
  if (!LIVE.has(session.state)) return "the script has ended";
  const gone = chosen.find(({ held }) => !held);
  if (gone) return `the script's process holds no state of ${gone.run}`;
  return session.state === "paused" ? "" : "pause the script first";
}

/** Of one comparison or merge. */
export const MAX_RUNS = 16;

/** What is known of how a run came to be, as facts. */
export function facts({ branch, step }: Node): [name: string, value: string][] {
  if (!branch) return [["began", "with the script"], ["step", step === null ? "" : format.count(step)]].filter(([, value]) => value) as [string, string][];
  const { parent, parents, checkpoint, selection, samples, loader, changes, budget, strategy, trained, verdict, by, time } = branch;
  const number = (value: unknown) => (typeof value === "number" ? format.loss(value) : Array.isArray(value) ? value.join(", ") : typeof value === "string" ? value : JSON.stringify(value));
  const of = parents && parents.length > 1 ? parents.join(", ") : `${parent}, step ${format.count(branch.step)}`;
  const found: [string, string][] = [
    ["began from", of], ["checkpoint", checkpoint ?? ""], ["strategy", strategy ?? ""],
    ["trained on", selection ? `${selection}${samples ? `: ${format.counted(samples, "sample")}` : ""}` : samples ? format.counted(samples, "sample") : branch.kind === "fork" ? "all samples" : ""],
    ["of", loader ?? ""], ["with", Object.entries(changes ?? {}).map(([name, value]) => `${name} ${number(value)}`).join(", ")], ["for", budget ?? ""],
    ["did", trained ? format.counted(trained, "step") : ""], ["verdict", verdict ?? ""], ["now at", step === null ? "" : `step ${format.count(step)}`],
    ["by", [by, time ? format.moment(time) : ""].filter(Boolean).join(", ")],
  ];
  return found.filter(([, value]) => value);
}

/** A graph that is laid out, in CSS pixels. */
export interface Laid {
  width: number;
  height: number;
  /** Middles. */
  places: Map<string, { x: number; y: number }>;
  edges: { from: string; to: string; path: string }[];
}

export const [NODE_WIDTH, NODE_HEIGHT] = [178, 64];
/** Around all of it. */
const EDGE = 8;

export function layout(nodes: readonly Pick<Node, "run" | "parents">[]): Laid {
  const graph = new Graph<GraphLabel, NodeLabel, EdgeLabel>();
  graph.setGraph({ rankdir: "LR", nodesep: 14, ranksep: 38 });
  for (const { run } of nodes) graph.setNode(run, { width: NODE_WIDTH, height: NODE_HEIGHT });
  for (const { run, parents } of nodes) for (const parent of parents) if (graph.hasNode(parent)) graph.setEdge(parent, run, {});
  arrange(graph);
  const lines = graph.edges().map((edge) => ({ from: edge.v, to: edge.w, points: graph.edge(edge).points ?? [] }));
  const spots = nodes.map(({ run }) => { const { x = 0, y = 0 } = graph.node(run); return { run, x, y }; });
  // Of a line that passes by boxes, the library's own size leaves out what lies outside of them.
  const [xs, ys] = [lines.flatMap(({ points }) => points.map(({ x }) => x)), lines.flatMap(({ points }) => points.map(({ y }) => y))];
  const left = EDGE - Math.min(...spots.map(({ x }) => x - NODE_WIDTH / 2), ...xs);
  const top = EDGE - Math.min(...spots.map(({ y }) => y - NODE_HEIGHT / 2), ...ys);
  const move = ({ x, y }: At): At => ({ x: x + left, y: y + top });
  return {
    width: left + EDGE + Math.max(0, ...spots.map(({ x }) => x + NODE_WIDTH / 2), ...xs), height: top + EDGE + Math.max(0, ...spots.map(({ y }) => y + NODE_HEIGHT / 2), ...ys),
    places: new Map(spots.map(({ run, ...spot }) => [run, move(spot)])), edges: lines.map(({ from, to, points }) => ({ from, to, path: curve(points.map(move)) })),
  };
}

interface At { x: number; y: number }

/** Through the middles between the points of a line: it has no corners. */
function curve(points: readonly At[]): string {
  const [first, ...rest] = points;
  const last = rest.pop();
  if (!first || !last) return "";
  const say = ({ x, y }: At) => `${x.toFixed(1)} ${y.toFixed(1)}`;
  const middle = rest.slice(0, -1).map((point, place) => { const next = rest[place + 1] ?? last; return `Q${say(point)} ${say({ x: (point.x + next.x) / 2, y: (point.y + next.y) / 2 })}`; });
  const before = rest[rest.length - 1];
  return `M${say(first)}${middle.join("")}${before ? `Q${say(before)} ${say(last)}` : `L${say(last)}`}`;
}

/** The node that an arrow leads to from this one: the nearest on that side. */
export function beside({ places }: Laid, run: string, key: string): string {
  const here = places.get(run);
  const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[key];
  if (!here || !way) return run;
  const [dx = 0, dy = 0] = way;
  let [best, least] = [run, Infinity];
  for (const [name, { x, y }] of places) {
    const along = (x - here.x) * dx + (y - here.y) * dy;
    const across = Math.abs((x - here.x) * dy) + Math.abs((y - here.y) * dx);
    if (along > 1 && along + 2 * across < least) [best, least] = [name, along + 2 * across];
  }
  return best;
}
