// One curve on a canvas: drag to zoom, double click for the whole, and what stands under the pointer in words.
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { AXES, places, placesBeside, type Axis } from "../axis";
import { data, marks, options, rows, type Range } from "../chart";
import * as format from "../format";
import { drawMarkers, placed, under as beneath, type Marker, type Placed } from "../markers";
import type { Kind } from "../metrics";
import type { Point, Series } from "../series";
import { onTheme } from "../theme";

export interface ChartProps {
  series: Series;
  kind: Kind;
  /** Drawn beside it, with its name for a person. */
  beside?: Series | null;
  called?: string;
  axis: Axis;
  log?: boolean;
  /** In CSS pixels. */
  height: () => number;
  zoom?: Range | null;
  onZoom?: (range: Range | null) => void;
  /** What happened at which step. */
  marked?: readonly Marker[];
}

const NONE: readonly Marker[] = [];

export function Chart({ series, kind, beside = null, called = "", axis, log = false, height, zoom = null, onZoom, marked = NONE }: ChartProps) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [under, setUnder] = useState<number | null>(null);
  const theme = useTheme();
  const [near, setNear] = useState("");
  const zoomed = useRef(onZoom);
  zoomed.current = onZoom;
  const signs = useRef<Placed[]>([]);

  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const made = new uPlot({
      ...options(element, height(), axis, log, kind.unit, beside !== null),
      hooks: {
        draw: [(drawn) => {
          marks(drawn, series, places(series, axis));
          if (beside) marks(drawn, beside, placesBeside(beside, series, axis));
          drawMarkers(drawn, signs.current);
        }],
        setCursor: [(drawn) => {
          const { idx, left = -1 } = drawn.cursor;
          setUnder(idx ?? null);
          setNear(left < 0 ? "" : beneath(signs.current, left, (at) => drawn.valToPos(at, "x")));
        }],
        setSelect: [(drawn) => { select(drawn, zoomed.current); }],
      },
    }, data(series, axis, log, null, beside), element);
    made.over.ondblclick = () => zoomed.current?.(null);
    plot.current = made;
    const resized = new ResizeObserver(() => { made.setSize({ width: element.clientWidth, height: height() }); });
    resized.observe(element);
    return () => {
      resized.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [series, beside, axis, log, kind, height, theme]);

  useEffect(() => {
    const drawn = plot.current;
    if (!drawn) return;
    signs.current = placed(marked, series, axis);
    drawn.setData(data(series, axis, log, zoom, beside), !zoom);
    if (zoom) drawn.setScale("x", zoom);
  }, [series, series.version, beside, beside?.version, axis, log, kind, height, theme, zoom, marked]);

  const told = under === null ? "" : words(series, beside, called, under, axis, kind);
  return (
    <>
      <div ref={place} class="plot" role="img" aria-label={summary(series, kind) + (beside ? `; ${called} ${spoken(beside, kind)}` : "")} />
      {series.length > 0 && (
        <p class="readout">
          {told ? <span class="figures">{near && <b class="near">{near} · </b>}{told}</span> : onZoom && <small>drag to zoom in</small>}
        </p>
      )}
    </>
  );
}

/** Take the dragged part as the new range; a click is none. */
function select(plot: uPlot, zoom: ChartProps["onZoom"]): void {
  const { left, width } = plot.select;
  if (width < 4) return;
  plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  zoom?.({ min: plot.posToVal(left, "x"), max: plot.posToVal(left + width, "x") });
}

/** What stands at a row of the chart: of each curve the newest point up to there. */
function words(series: Series, beside: Series | null, called: string, under: number, axis: Axis, kind: Kind): string {
  let [own, other] = [-1, -1];
  for (const row of rows(series, beside, axis).slice(0, under + 1)) {
    own = row.own ?? own;
    other = row.beside ?? other;
  }
  const said = own < 0 ? [] : [point(series.at(own), axis, kind)];
  if (beside && other >= 0) said.push(`${called} ${format.value(beside.value[other] ?? NaN)}${kind.unit} at step ${format.count(beside.step[other] ?? 0)}`);
  return said.join(" · ");
}

function point(point: Point, axis: Axis, { unit }: Kind): string {
  const value = format.value(point.value) + unit;
  const spread = point.weight > 1 ? ` (mean; lowest ${format.value(point.low)}, highest ${format.value(point.high)})` : "";
  const where = { step: `step ${format.count(point.step)}`, epoch: `epoch ${point.epoch}`, time: format.moment(point.time) };
  const others = AXES.filter((name) => name !== axis).map((name) => where[name]);
  return `${[where[axis], ...others].join(" · ")}: ${value}${spread}`;
}

function summary(series: Series, kind: Kind): string {
  return series.length ? `${kind.label} ${spoken(series, kind)}` : `No ${kind.label} yet`;
}

function spoken(series: Series, { unit }: Kind): string {
  const [first, last] = [series.at(0), series.at(series.length - 1)];
  return `from step ${first.step} to ${last.step}, from ${format.loss(first.value)}${unit} to ${format.loss(last.value)}${unit}`;
}

/** The plot's colours are fixed when it is made. */
function useTheme(): string {
  const [theme, setTheme] = useState("");
  useEffect(() => onTheme(document.documentElement, setTheme), []);
  return theme;
}
