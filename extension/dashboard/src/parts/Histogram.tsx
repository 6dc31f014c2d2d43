// The per-sample losses of one epoch, with their certificate where they stand.
import * as format from "../format";
import type { Histogram, Session } from "../protocol";

const WIDTH = 420;
const HEIGHT = 130;

export function HistogramCard({ histogram, session }: { histogram: Histogram | null; session: Session }) {
  return (
    <section class="card" aria-label="Per-sample loss">
      <h2>
        Per-sample loss{" "}
        {histogram && histogram.count > 0 && (
          <small>{`epoch ${histogram.epoch} · ${format.count(histogram.count)} samples · ${trust(histogram)}`}</small>
        )}
      </h2>
      {histogram && histogram.count > 0 ? <Bars histogram={histogram} /> : <p class="empty">{reason(histogram, session)}</p>}
    </section>
  );
}

function Bars({ histogram }: { histogram: Histogram }) {
  const { counts, low, high, median } = histogram;
  const top = Math.max(...counts, 1);
  const width = WIDTH / counts.length;
  const at = (value: number) => (high > low ? ((value - low) / (high - low)) * WIDTH : 0);
  const label = `${format.count(histogram.count)} samples from ${format.loss(low)} to ${format.loss(high)}, median ${format.loss(median)}`;
  return (
    <>
      <svg class="histogram" viewBox={`0 0 ${WIDTH} ${HEIGHT + 4}`} preserveAspectRatio="none" role="img" aria-label={label}>
        {counts.map((number, bin) => {
          // A bin with a single sample must be seen beside one with thousands.
          const height = number ? Math.max(2, (number / top) * HEIGHT) : 0;
          return (
            <rect key={bin} x={bin * width + 0.5} y={HEIGHT - height} width={Math.max(width - 1, 0.5)} height={height}>
              <title>{`${format.loss(histogram.edges[bin])} to ${format.loss(histogram.edges[bin + 1])}: ${format.count(number)}`}</title>
            </rect>
          );
        })}
        {median !== null && <line x1={at(median)} x2={at(median)} y1="0" y2={HEIGHT} />}
      </svg>
      <p class="scale figures">
        <span>{format.loss(low)}</span>
        <span class="muted">{`median ${format.loss(median)}`}</span>
        <span>{format.loss(high)}</span>
      </p>
      {histogram.nonfinite > 0 && <p class="warn">{`${format.count(histogram.nonfinite)} samples are NaN or infinite.`}</p>}
    </>
  );
}

/** In words, how far the values and their indices may be trusted. */
export function trust({ certificates, identities, count }: Histogram): string {
  const exact = certificates["exact"] ?? 0;
  const known = identities["index"] ?? 0;
  const values = exact === count ? "exact" : `${format.count(count - exact)} approximate`;
  return known === count ? values : `${values}, ${known ? format.count(count - known) : "all"} without index`;
}

function reason(histogram: Histogram | null, session: Session): string {
  const lost = histogram?.lost[0];
  if (lost) return `Not captured: ${lost.reason}.`;
  return session.backwards ? "No per-sample losses in this epoch yet." : "Per-sample losses appear with the first backward call.";
}
