// The losses of one sample, one presentation after the other.
import * as format from "../../format";
import type { History } from "../../protocol";

const [WIDE, TALL] = [240, 60];

export function Losses({ history }: { history: History | null }) {
  if (!history) return <p class="losses muted" aria-busy="true">Reading its losses…</p>;
  const losses = history.loss.map((value) => (typeof value === "number" ? value : NaN));
  const finite = losses.filter(Number.isFinite);
  if (!finite.length) return <p class="losses muted">No finite loss was recorded of it.</p>;
  const top = Math.max(...finite, 1e-9);
  const x = (place: number) => (losses.length > 1 ? 4 + (place / (losses.length - 1)) * (WIDE - 8) : WIDE / 2);
  const y = (value: number) => TALL - 4 - (value / top) * (TALL - 8);
  const line = losses.map((value, place) => (Number.isFinite(value) ? `${place && Number.isFinite(losses[place - 1]) ? "L" : "M"}${x(place).toFixed(1)} ${y(value).toFixed(1)}` : "")).join("");
  const last = finite[finite.length - 1] ?? NaN;
  const [from, to] = [history.epoch[0] ?? 0, history.epoch[history.epoch.length - 1] ?? 0];
  return (
    <figure class="losses">
      <svg viewBox={`0 0 ${WIDE} ${TALL}`} preserveAspectRatio="none" role="img" aria-label={`${format.counted(losses.length, "loss", "losses")}, the last ${format.loss(last)}`}>
        <path class="zero" d={`M0 ${TALL - 4}H${WIDE}`} />
        <path d={line} />
      </svg>
      <figcaption>{`loss from 0 to ${format.loss(top)}, epoch ${from}${to === from ? "" : ` to ${to}`}; last ${format.loss(last)}`}</figcaption>
    </figure>
  );
}
