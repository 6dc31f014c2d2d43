// The terms of a loss that has several: a thin bar under each loss, as long as the loss is high, and what its colours mean.
import * as format from "../format";
import { parts, type Recorded } from "../samples";

/** Terms with a colour of their own; the rest share the last. */
const COLOURS = 4;
const [WIDTH, HEIGHT] = [100, 4];

/** Of all terms in these rows: the place of a name is its colour. */
export function terms(rows: readonly Recorded[]): string[] {
  return [...new Set(rows.flatMap((row) => parts(row).map(([name]) => name)))];
}

export function Swatch({ place }: { place: number }) {
  return <i class={`swatch ${colour(place)}`} aria-hidden="true" />;
}

const colour = (place: number) => `term${Math.min(place, COLOURS - 1)}`;

const size = (value: number | string) => (typeof value === "number" && Number.isFinite(value) ? Math.abs(value) : 0);

interface PartsProps {
  row: Recorded;
  names: readonly string[];
  /** The loss that has the whole width. */
  largest: number;
}

/** A term below 0 counts by its size; the words tell its sign. */
export function Parts({ row, names, largest }: PartsProps) {
  const found = parts(row);
  const total = found.reduce((sum, [, value]) => sum + size(value), 0);
  if (!total) return null;
  const wide = (WIDTH / total) * (largest > 0 ? Math.min(1, size(row.loss) / largest) : 1);
  let from = WIDTH - wide * total; // its end is beside the figure
  const words = found.map(([name, value]) => `${name} ${format.loss(value)}`).join(" + ");
  return (
    <svg class="parts" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={words}>
      <title>{words}</title>
      {found.map(([name, value]) => {
        const x = from;
        from += wide * size(value);
        return <rect key={name} class={colour(names.indexOf(name))} x={x} y="0" width={wide * size(value)} height={HEIGHT} />;
      })}
    </svg>
  );
}

/** What the colours mean; nothing where no loss has several terms. */
export function Legend({ names }: { names: readonly string[] }) {
  if (!names.length) return null;
  return <p class="terms">{names.map((name, place) => <span key={name} class="term"><Swatch place={place} /> {name}</span>)}</p>;
}
