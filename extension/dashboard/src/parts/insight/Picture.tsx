// A sample as far as it can be drawn: pictures, heat maps, waveforms, texts, rows; or why it cannot.
import type { ShownPart, ShownSample } from "../../shown";

const [WIDE, TALL] = [200, 60];

export function Picture({ shown, small = false }: { shown: ShownSample | undefined; small?: boolean }) {
  if (!shown) return <span class="blank" aria-hidden="true" />;
  if (shown.reason) return <span class="blank reason">{shown.reason}</span>;
  // A single value beside the rest is the target, as a rule: it stands beside the picture already.
  const rest = shown.parts.filter(({ kind }) => kind !== "value");
  const parts = small || !rest.length ? (rest.length ? rest : shown.parts).slice(0, 1) : rest;
  return <>{parts.map((part) => <Part key={part.name} part={part} small={small} />)}</>;
}

function Part({ part, small }: { part: ShownPart; small: boolean }) {
  return (
    <figure class={`shown ${part.kind}`}>
      <Drawn part={part} small={small} />
      {!small && <figcaption>{[part.name, part.says].filter(Boolean).join(": ")}</figcaption>}
    </figure>
  );
}

function Drawn({ part, small }: { part: ShownPart; small: boolean }) {
  switch (part.kind) {
    case "image":
    case "heat":
      return <img src={`data:image/png;base64,${part.png ?? ""}`} width={part.width} height={part.height} alt={part.says} class={(part.width ?? 0) < 64 ? "pixels" : ""} />;
    case "audio":
      return <Wave low={part.low ?? []} high={part.high ?? []} says={part.says} />;
    case "text":
    case "value":
      return <blockquote title={small ? part.text : undefined}>{part.text}</blockquote>;
    case "row":
      return (
        <dl class="row">
          {(part.row ?? []).slice(0, small ? 3 : undefined).map(([name, value]) => <div key={name}><dt title={name}>{name}</dt><dd class="figures">{value}</dd></div>)}
        </dl>
      );
    case "none":
      return <span class="blank reason">{part.says}</span>;
  }
}

/** Each part from its lowest to its highest value. */
function Wave({ low, high, says }: { low: readonly number[]; high: readonly number[]; says: string }) {
  const top = Math.max(1e-12, ...low.map(Math.abs), ...high.map(Math.abs));
  const x = (place: number) => ((place / Math.max(1, low.length - 1)) * WIDE).toFixed(1);
  const y = (value: number) => (TALL / 2 - (value / top) * (TALL / 2 - 1)).toFixed(1);
  const there = high.map((value, place) => `${place ? "L" : "M"}${x(place)} ${y(value)}`).join("");
  const back = low.map((value, place) => `L${x(low.length - 1 - place)} ${y(low[low.length - 1 - place] ?? value)}`).join("");
  return <svg class="wave" viewBox={`0 0 ${WIDE} ${TALL}`} preserveAspectRatio="none" role="img" aria-label={says}><path d={`${there}${back}Z`} /></svg>;
}
