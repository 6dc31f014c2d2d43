// One curve on a canvas: drag to zoom, double click for the whole, and what stands under the pointer in words.
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { AXES, type Axis } from "../axis";
import { data, marks, options, type Range } from "../chart";
import * as format from "../format";
import type { Kind } from "../metrics";
import type { Point, Series } from "../series";
import { onTheme } from "../theme";

export interface ChartProps {
  series: Series;
  kind: Kind;
  axis: Axis;
  log?: boolean;
  /** In CSS pixels. */
  height: () => number;
  zoom?: Range | null;
  onZoom?: (range: Range | null) => void;
}

export function Chart({ series, kind, axis, log = false, height, zoom = null, onZoom }: ChartProps) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [under, setUnder] = useState<number | null>(null);
  const theme = useTheme();
  const zoomed = useRef(onZoom);
  zoomed.current = onZoom;

  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const made = new uPlot({
      ...options(element, height(), axis, log, kind.unit),
      hooks: {
        draw: [(drawn) => { marks(drawn, series, axis); }],
        setCursor: [({ cursor }) => { setUnder(cursor.idx ?? null); }],
        setSelect: [(drawn) => { select(drawn, zoomed.current); }],
      },
    }, data(series, axis, log, null), element);
    made.over.ondblclick = () => zoomed.current?.(null);
    plot.current = made;
    const resized = new ResizeObserver(() => { made.setSize({ width: element.clientWidth, height: height() }); });
    resized.observe(element);
    return () => {
      resized.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [series, axis, log, kind, height, theme]);

  useEffect(() => {
    const drawn = plot.current;
    if (!drawn) return;
    drawn.setData(data(series, axis, log, zoom), !zoom);
    if (zoom) drawn.setScale("x", zoom);
  }, [series, series.version, axis, log, kind, height, theme, zoom]);

  return (
    <>
      <div ref={place} class="plot" role="img" aria-label={summary(series, kind)} />
      {series.length > 0 && (
        <p class="readout">
          {under === null || under >= series.length ? onZoom && <small>drag to zoom in</small> : <span class="figures">{words(series.at(under), axis, kind)}</span>}
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

function words(point: Point, axis: Axis, { unit }: Kind): string {
  const value = format.value(point.value) + unit;
  const spread = point.weight > 1 ? ` (mean; lowest ${format.value(point.low)}, highest ${format.value(point.high)})` : "";
  const where = { step: `step ${format.count(point.step)}`, epoch: `epoch ${point.epoch}`, time: format.moment(point.time) };
  const others = AXES.filter((name) => name !== axis).map((name) => where[name]);
  return `${[where[axis], ...others].join(" · ")}: ${value}${spread}`;
}

function summary(series: Series, { label, unit }: Kind): string {
  if (!series.length) return `No ${label} yet`;
  const [first, last] = [series.at(0), series.at(series.length - 1)];
  return `${label} from step ${first.step} to ${last.step}, from ${format.loss(first.value)}${unit} to ${format.loss(last.value)}${unit}`;
}

/** The plot's colours are fixed when it is made. */
function useTheme(): string {
  const [theme, setTheme] = useState("");
  useEffect(() => onTheme(document.documentElement, setTheme), []);
  return theme;
}
