// The runs as a graph: each a box, an edge from what it began from. Arrows walk, Enter or x chooses.
import { useEffect, useMemo, useRef } from "preact/hooks";
import * as format from "../../format";
import { beside, layout, NODE_HEIGHT, NODE_WIDTH, type Node } from "../../lineage";
import type { Model } from "../../model";

/** Letters of a name that a box holds. */
const LETTERS = 17;

interface GraphProps {
  model: Model;
  nodes: readonly Node[];
  /** Its newest, in words; empty: not known. */
  loss: (node: Node) => string;
  /** The pointer is over it; empty: over none. */
  onHover: (run: string) => void;
}

export function Graph({ model: { runs }, nodes, loss, onHover }: GraphProps) {
  const place = useRef<HTMLDivElement>(null);
  const shape = JSON.stringify(nodes.map(({ run, parents }) => [run, parents]));
  const laid = useMemo(() => layout(nodes), [shape]);
  const current = nodes.find((node) => node.current)?.run ?? "";
  const at = laid.places.has(runs.at) ? runs.at : current;
  const show = (run: string) => {
    const [box, spot] = [place.current, laid.places.get(run)];
    if (!box || !spot) return;
    box.scrollLeft = within(box.scrollLeft, box.clientWidth, spot.x, NODE_WIDTH);
    box.scrollTop = within(box.scrollTop, box.clientHeight, spot.y, NODE_HEIGHT);
  };
  useEffect(() => { show(current); }, [shape, current]);
  const onKey = (event: KeyboardEvent) => {
    const from = laid.places.has(runs.at) ? runs.at : current; // of now, not of when this was drawn
    if (event.key.startsWith("Arrow")) {
      const next = beside(laid, from, event.key);
      runs.look(next);
      show(next);
    } else if (event.key === "Enter" || event.key.toLowerCase() === "x") runs.choose(from, true);
    else if (event.key === "Escape" && runs.chosen.length) runs.none();
    else return;
    event.preventDefault();
  };
  return (
    <div ref={place} class="lineage" tabIndex={0} role="listbox" aria-label="Runs" aria-multiselectable={true} aria-activedescendant={`run-${at}`} onKeyDown={onKey} onPointerLeave={() => { onHover(""); }}>
      <svg width={laid.width} height={laid.height} viewBox={`0 0 ${laid.width} ${laid.height}`} role="presentation">
        {laid.edges.map(({ from, to, path }) => <path key={`${from} ${to}`} class={from === at || to === at ? "edge near" : "edge"} d={path} />)}
        {nodes.map((node) => <Box key={node.run} node={node} spot={laid.places.get(node.run) ?? { x: 0, y: 0 }} loss={loss(node)} looked={node.run === at} order={runs.chosen.indexOf(node.run)} onChoose={(more) => { runs.choose(node.run, more); }} onHover={() => { onHover(node.run); }} />)}
      </svg>
    </div>
  );
}

/** Where to scroll to, so that something is in sight; no further than needed. */
function within(from: number, size: number, middle: number, width: number): number {
  const [start, end] = [middle - width / 2 - 8, middle + width / 2 + 8];
  if (start < from) return Math.max(0, start);
  return end > from + size ? end - size : from;
}

interface BoxProps {
  node: Node;
  spot: { x: number; y: number };
  loss: string;
  looked: boolean;
  /** Among the chosen; -1: it is not. */
  order: number;
  onChoose: (more: boolean) => void;
  onHover: () => void;
}

function Box({ node, spot, loss, looked, order, onChoose, onHover }: BoxProps) {
  const { run, kind, step, current, held } = node;
  const words = [kind || "first run", step === null ? "" : `step ${format.count(step)}`].filter(Boolean).join(" · ");
  const label = [run, words, loss, current ? "current" : held ? "held" : ""].filter(Boolean).join(", ");
  const chosen = order >= 0;
  return (
    <g
      id={`run-${run}`} class={`run${current ? " current" : ""}${held ? " held" : ""}${looked ? " looked" : ""}${chosen ? " chosen" : ""}`} role="option" aria-selected={chosen} aria-label={label}
      transform={`translate(${(spot.x - NODE_WIDTH / 2).toFixed(1)} ${(spot.y - NODE_HEIGHT / 2).toFixed(1)})`}
      onClick={({ shiftKey, ctrlKey, metaKey }) => { onChoose(shiftKey || ctrlKey || metaKey); }} onPointerEnter={onHover}
    >
      <title>{run}</title>
      <rect class="box" width={NODE_WIDTH} height={NODE_HEIGHT} rx="9" />
      <circle class="mark" cx="16" cy="18" r="4.5" />
      <text class="name" x="28" y="22">{run.length > LETTERS ? `${run.slice(0, LETTERS - 1)}…` : run}</text>
      <text class="words" x="12" y="40">{words}</text>
      <text class="words" x="12" y="55">{loss}</text>
      {chosen && <g transform={`translate(${NODE_WIDTH - 16} 16)`}><circle class="order" r="9" /><text class="number" y="4">{order + 1}</text></g>}
    </g>
  );
}
