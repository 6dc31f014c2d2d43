// The per-sample losses of one epoch, with their certificate where they stand; of training, or of the script's own validation.
import { useRef, useState } from "preact/hooks";
import type { Request } from "../explore";
import * as format from "../format";
import type { Model } from "../model";
import type { Histogram, Session } from "../protocol";
import { remedy } from "../remedies";
import type { Phase, SampleStore } from "../samples";
import { ForkOn } from "./runs/ForkOn";

const WIDTH = 420;
const HEIGHT = 130;
/** Share of the width within which an end of the range is meant. */
const SNAP = 0.015;

export const PHASES: Record<Phase, string> = { train: "training", valid: "validation", test: "test", scan: "scan" };

export function HistogramCard({ model, session }: { model: Model; session: Session }) {
  const { samples } = model;
  const [log, setLog] = useState(false);
  const { histogram } = samples;
  const full = histogram && histogram.count > 0 ? histogram : null;
  const phases = histogram?.phases ?? [];
  return (
    <section class="card" aria-label="Per-sample loss">
      <div class={phases.length > 1 ? "head" : "head narrow"}>
        <h2>
          Per-sample loss{" "}
          {full && <small>{`epoch ${full.epoch} · ${format.counted(full.count, "sample")} · ${trust(full)}`}</small>}
        </h2>
        <span class="tools">
          {phases.length > 1 && <PhaseChoice samples={samples} phases={phases} />}
          {full && <button class="quiet" aria-pressed={log} title="Logarithmic heights: few samples are seen beside many" onClick={() => { setLog(!log); }}>log</button>}
        </span>
      </div>
      {full ? <Bars key={`${session.id} ${full.phase}`} model={model} histogram={full} log={log} /> : <Nothing histogram={histogram} session={session} />}
    </section>
  );
}

/** There once the run has records of more than one phase. */
function PhaseChoice({ samples, phases }: { samples: SampleStore; phases: readonly Phase[] }) {
  return (
    <span class="choice" role="group" aria-label="Phase">
      {phases.map((phase) => (
        <button key={phase} class="quiet" aria-pressed={samples.phase === phase} title="Here and in the list of samples" onClick={() => { samples.look(phase); }}>
          {PHASES[phase]}
        </button>
      ))}
    </span>
  );
}

/** A part of the range, drawn with the pointer: ends in losses, the epoch that they are of. */
interface Band {
  from: number;
  to: number;
  epoch: number;
}

function Bars({ model, histogram, log }: { model: Model; histogram: Histogram; log: boolean }) {
  const { counts, low, high, median } = histogram;
  const [band, setBand] = useState<Band | null>(null);
  const start = useRef<number | null>(null);
  const lossAt = (event: PointerEvent & { currentTarget: SVGSVGElement }) => {
    const { left, width } = event.currentTarget.getBoundingClientRect();
    const share = (event.clientX - left) / width;
    if (share < SNAP) return low;
    return share > 1 - SNAP ? high : low + share * (high - low);
  };
  const drag = (event: PointerEvent & { currentTarget: SVGSVGElement }) => {
    if (start.current === null) return;
    const to = lossAt(event);
    setBand({ from: Math.min(start.current, to), to: Math.max(start.current, to), epoch: histogram.epoch });
  };
  const drop = () => {
    start.current = null;
    if (band && band.to - band.from > (high - low) / 200) model.explore.select(request(histogram, band));
    else setBand(null);
  };
  const tall = (number: number) => (log ? Math.log1p(number) : number);
  const top = tall(Math.max(...counts, 1));
  const width = WIDTH / counts.length;
  const at = (value: number) => (high > low ? ((value - low) / (high - low)) * WIDTH : 0);
  const label = `${format.count(histogram.count)} samples from ${format.loss(low)} to ${format.loss(high)}, median ${format.loss(median)}`;
  return (
    <>
      <svg class="histogram" viewBox={`0 0 ${WIDTH} ${HEIGHT + 4}`} preserveAspectRatio="none" role="img" aria-label={label}
        onPointerDown={(event) => { event.currentTarget.setPointerCapture(event.pointerId); start.current = lossAt(event); }} onPointerMove={drag} onPointerUp={drop} onPointerCancel={drop}
      >
        {counts.map((number, bin) => {
          // A bin with a single sample must be seen beside one with thousands.
          const height = number ? Math.max(2, (tall(number) / top) * HEIGHT) : 0;
          return (
            <rect key={bin} x={bin * width + 0.5} y={HEIGHT - height} width={Math.max(width - 1, 0.5)} height={height}>
              <title>{`${format.loss(histogram.edges[bin])} to ${format.loss(histogram.edges[bin + 1])}: ${format.count(number)}`}</title>
            </rect>
          );
        })}
        {band && <rect class="band" x={at(band.from)} y={0.5} width={Math.max(1, at(band.to) - at(band.from))} height={HEIGHT - 1} />}
        {median !== null && <line x1={at(median)} x2={at(median)} y1="0" y2={HEIGHT} />}
      </svg>
      <p class="scale figures">
        <span>{format.loss(low)}</span>
        <span class="muted">{`median ${format.loss(median)}`}</span>
        <span>{format.loss(high)}</span>
      </p>
      <Selected model={model} request={band && request(histogram, band)} onClear={() => { setBand(null); }} />
      {histogram.nonfinite > 0 && <p class="warn">{`${format.count(histogram.nonfinite)} samples are NaN or infinite.`}</p>}
    </>
  );
}

function request({ phase, low, high }: Histogram, { from, to, epoch }: Band): Request {
  const end = (value: number) => String(Number(value.toPrecision(6)));
  return { select: `loss=${from > low ? end(from) : ""}:${to < high ? end(to) : ""}`, phase, epoch };
}

/** What was drawn around. The room is kept: nothing moves when there is something to say. */
function Selected({ model, request, onClear }: { model: Model; request: Request | null; onClear: () => void }) {
  const { explore } = model;
  const asked = request && explore.asked.select === request.select && explore.asked.epoch === request.epoch ? explore : null;
  if (!request) return <p class="field brushed"><small>Drag over the bars to select samples by their loss.</small></p>;
  return (
    <p class="field brushed" role="status">
      <span class="figures">{asked?.answer ? `${format.count(asked.answer.count)} selected` : (asked?.fault ?? "")}</span>
      <span class="grow" />
      <button class="quiet" onClick={onClear}>none</button>
      <ForkOn model={model} request={request} />
      <button onClick={() => { if (!asked) explore.select(request); model.open("Samples"); document.getElementById("tab-Samples")?.scrollIntoView({ block: "nearest" }); }}>Look</button>
    </p>
  );
}

/** In words, how far the values and their names may be trusted. */
export function trust({ certificates, identities, count }: Histogram): string {
  const exact = certificates["exact"] ?? 0;
  const said = [exact === count ? "exact" : `${format.count(count - exact)} approximate`];
  const { stream = 0, none = 0 } = identities;
  if (stream) said.push(`${stream === count ? "all" : format.count(stream)} by place in a stream`);
  if (none) said.push(`${none === count ? "all" : format.count(none)} without index`);
  return said.join(", ");
}

function Nothing({ histogram, session }: { histogram: Histogram | null; session: Session }) {
  const lost = histogram?.lost[0];
  if (!histogram && session.backwards) return <p class="empty">Reading the records…</p>;
  if (!lost) return <p class="empty">{session.backwards ? "No per-sample losses in this epoch yet." : "Per-sample losses appear with the first backward call."}</p>;
  return (
    <>
      <p class="empty">{`Not captured: ${lost.reason}.`}</p>
      {remedy(lost.reason) && <p>{remedy(lost.reason)}</p>}
    </>
  );
}
