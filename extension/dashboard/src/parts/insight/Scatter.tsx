// Points on a canvas: many thousands are drawn in a few milliseconds; a line around some of them chooses these.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { inside, type Colour } from "../../maps";
import type { SampleMap } from "../../protocol";
import { onTheme } from "../../theme";

/** Of classes and clusters: hues that differ in light and dark; after twelve they begin anew. */
const HUES = [217, 18, 142, 283, 43, 190, 330, 95, 255, 0, 165, 60];
const EDGE = 12;
/** Pixels from the pointer within which a point is meant. */
const NEAR = 12;

interface ScatterProps {
  map: SampleMap;
  colour: Colour;
  chosen: ReadonlySet<number>;
  onChoose: (places: number[]) => void;
  /** What is said of the point under the pointer. */
  describe: (place: number) => string;
}

export function Scatter({ map, colour, chosen, onChoose, describe }: ScatterProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [size, setSize] = useState<[number, number]>([0, 0]);
  const [theme, setTheme] = useState("");
  const [said, setSaid] = useState("");
  const line = useRef<[number, number][]>([]);
  useEffect(() => onTheme(document.documentElement, setTheme), []);
  useLayoutEffect(() => {
    const element = canvas.current;
    if (!element) return undefined;
    setSize([element.clientWidth, element.clientHeight]);
    const observer = new ResizeObserver(() => { setSize([element.clientWidth, element.clientHeight]); });
    observer.observe(element);
    return () => { observer.disconnect(); };
  }, []);
  const places = project(map, ...size);
  useEffect(() => { if (canvas.current) draw(canvas.current, map, places, colour, chosen, line.current); }, [map, colour, chosen, size, theme]);

  const point = (event: PointerEvent): [number, number] => [event.offsetX, event.offsetY];
  const over = (event: PointerEvent & { currentTarget: HTMLCanvasElement }) => {
    if (line.current.length) {
      line.current.push(point(event));
      draw(event.currentTarget, map, places, colour, chosen, line.current);
      return;
    }
    const near = nearest(places, ...point(event));
    setSaid(near === null ? "" : describe(near));
  };
  const end = (event: PointerEvent & { currentTarget: HTMLCanvasElement }) => {
    const drawn = line.current;
    line.current = [];
    if (!drawn.length) return;
    const near = nearest(places, ...point(event));
    if (drawn.length < 4) onChoose(near === null ? [] : [near]); // a click
    else onChoose(map.x.flatMap((_, place) => (inside(drawn, places[2 * place] ?? 0, places[2 * place + 1] ?? 0) ? [place] : [])));
    draw(event.currentTarget, map, places, colour, chosen, []);
  };
  return (
    <div class="scatter">
      <canvas
        ref={canvas} role="img" aria-label={`${map.x.length} samples in two dimensions, coloured by ${colour}. The clusters beside it list the same samples.`}
        onPointerDown={(event) => { event.currentTarget.setPointerCapture(event.pointerId); line.current = [point(event)]; }}
        onPointerMove={over} onPointerUp={end} onPointerCancel={() => { line.current = []; }} onPointerLeave={() => { setSaid(""); }}
      />
      <p class="readout figures">{said || "Draw a line around samples to choose them; a click chooses one."}</p>
    </div>
  );
}

/** x and y of each point in pixels, one scale for both axes. */
function project({ x, y }: SampleMap, width: number, height: number): Float32Array {
  const places = new Float32Array(2 * x.length);
  const [left, right, low, high] = [min(x), max(x), min(y), max(y)];
  const scale = Math.min((width - 2 * EDGE) / (right - left || 1), (height - 2 * EDGE) / (high - low || 1));
  const [dx, dy] = [(width - (right - left) * scale) / 2, (height - (high - low) * scale) / 2];
  for (let place = 0; place < x.length; place++) {
    places[2 * place] = dx + ((x[place] ?? 0) - left) * scale;
    places[2 * place + 1] = height - dy - ((y[place] ?? 0) - low) * scale;
  }
  return places;
}

const min = (values: readonly number[]) => values.reduce((least, value) => Math.min(least, value), Infinity);
const max = (values: readonly number[]) => values.reduce((most, value) => Math.max(most, value), -Infinity);

function nearest(places: Float32Array, x: number, y: number): number | null {
  let [found, least]: [number | null, number] = [null, NEAR * NEAR];
  for (let place = 0; 2 * place < places.length; place++) {
    const distance = ((places[2 * place] ?? 0) - x) ** 2 + ((places[2 * place + 1] ?? 0) - y) ** 2;
    if (distance < least) [found, least] = [place, distance];
  }
  return found;
}

function draw(canvas: HTMLCanvasElement, map: SampleMap, places: Float32Array, colour: Colour, chosen: ReadonlySet<number>, line: readonly [number, number][]): void {
  const ratio = devicePixelRatio || 1;
  const context = canvas.getContext("2d");
  if (!context || !canvas.clientWidth) return;
  canvas.width = canvas.clientWidth * ratio;
  canvas.height = canvas.clientHeight * ratio;
  context.scale(ratio, ratio);
  const style = getComputedStyle(canvas);
  const paint = painter(map, colour, style);
  const size = map.x.length > 5000 ? 1.5 : map.x.length > 500 ? 2.5 : 4;
  for (let place = 0; place < map.x.length; place++) {
    context.globalAlpha = chosen.size && !chosen.has(place) ? 0.2 : 0.85;
    context.fillStyle = paint(place);
    context.fillRect((places[2 * place] ?? 0) - size, (places[2 * place + 1] ?? 0) - size, 2 * size, 2 * size);
  }
  context.globalAlpha = 1;
  if (line.length < 2) return;
  context.strokeStyle = style.getPropertyValue("--text").trim();
  context.setLineDash([4, 3]);
  context.beginPath();
  for (const [x, y] of line) context.lineTo(x, y);
  context.closePath();
  context.stroke();
}

export function hue(number: number, dark: boolean): string {
  return `hsl(${HUES[number % HUES.length] ?? 0} 70% ${dark ? 65 : 45}%)`;
}

/** By loss: from the accent to the warning colour, by rank, so that one giant does not make all others equal. */
function painter({ loss, target, cluster }: SampleMap, colour: Colour, style: CSSStyleDeclaration): (place: number) => string {
  const dark = (document.documentElement.dataset["theme"] ?? "").startsWith("dark");
  const muted = style.getPropertyValue("--muted").trim();
  if (colour === "cluster") return (place) => hue(cluster[place] ?? 0, dark);
  if (colour === "class") {
    const classes = [...new Set(target)].filter((value) => value !== null).sort((a, b) => a - b);
    return (place) => (target[place] === null || target[place] === undefined ? muted : hue(classes.indexOf(target[place] ?? 0), dark));
  }
  const order = loss.map((value, place) => [value, place] as const).filter((pair): pair is readonly [number, number] => pair[0] !== null).sort((a, b) => a[0] - b[0]);
  const rank = new Map(order.map(([, place], at) => [place, at / Math.max(1, order.length - 1)]));
  // Over grey, not through the rainbow: the middle is what nobody looks for.
  const shades = Array.from({ length: 33 }, (_, at) => `hsl(${at < 16 ? 217 : 18} ${Math.abs(at - 16) * 4.8}% ${dark ? 52 + at * 0.4 : 62 - at * 0.4}%)`);
  return (place) => { const at = rank.get(place); return at === undefined ? muted : (shades[Math.round(at * 32)] ?? muted); };
}
