// Runs side by side: on all samples, on a slice, on the rest, by class; each with how sure the difference is.
import { useState } from "preact/hooks";
import * as format from "../../format";
import type { Model } from "../../model";
import type { Compared, ComparedPart, Comparison as Table } from "../../protocol";

const FEW = 14;

export function Comparison({ model: { runs } }: { model: Model }) {
  const { comparison, fault } = runs;
  return (
    <>
      {fault && <p class="said wrong" role="alert">{fault}</p>}
      {comparison && <Side table={comparison} />}
    </>
  );
}

function Side({ table }: { table: Table }) {
  const [all, setAll] = useState(false);
  const { runs, parts, loader, verdict, select } = table;
  const rows = all ? parts : parts.slice(0, FEW);
  const wide = Math.max(...parts.flatMap(({ runs: found }) => found.flatMap(({ low, high }) => [Math.abs(low ?? 0), Math.abs(high ?? 0)])), 0);
  const [first] = runs;
  return (
    <section class="result" aria-label="Comparison">
      <h3>{verdict}</h3>
      <p class="remark">{`On ${loader}${select ? `; the slice is ${select}` : ""}. Differences are of the loss, beside ${first?.run ?? ""}: below 0 is better; 95 % intervals, paired by sample.`}</p>
      <div class="scroll">
        <table class="plain compared" aria-label="Runs side by side">
          <thead>
            <tr>
              <th scope="col">part</th><th scope="col">samples</th>
              {runs.map(({ run, evaluation, step }) => <th key={run} scope="col" title={evaluation}><strong>{run}</strong><small>{`step ${format.count(step)}`}</small></th>)}
            </tr>
          </thead>
          <tbody>{rows.map((part) => <Part key={part.name} part={part} wide={wide} />)}</tbody>
        </table>
      </div>
      {parts.length > FEW && <button class="quiet" onClick={() => { setAll(!all); }}>{all ? "fewer" : `all ${format.count(parts.length)} parts`}</button>}
    </section>
  );
}

function Part({ part, wide }: { part: ComparedPart; wide: number }) {
  return (
    <tr>
      <th scope="row">{part.name}</th><td>{format.count(part.count)}</td>
      {part.runs.map((found, place) => <td key={place}><One found={found} wide={wide} first={place === 0} /></td>)}
    </tr>
  );
}

/** With as many digits as the widest difference of the table wants: they stand under each other. */
const signing = (wide: number) => {
  const digits = wide > 0 ? Math.min(8, Math.max(0, 2 - Math.floor(Math.log10(wide)))) : 3;
  return (value: number) => {
    const size = Math.abs(value).toFixed(digits);
    return Number(size) ? (value > 0 ? "+" : "−") + size : size;
  };
};

function One({ found, wide, first }: { found: Compared; wide: number; first: boolean }) {
  const { loss, accuracy = null, difference = null, low = null, high = null, wins = 0, losses = 0 } = found;
  const signed = signing(wide);
  const sure = low !== null && high !== null ? (high < 0 ? "better" : low > 0 ? "worse" : "") : "";
  return (
    <>
      <span class="line">{format.loss(loss)}{accuracy !== null && <span class="muted">{`  ${(100 * accuracy).toFixed(1)} %`}</span>}</span>
      {!first && difference !== null && (
        <span class={`line effect ${sure}`} title={`lower on ${format.counted(wins, "sample")}, higher on ${format.count(losses)}`}>
          <b>{signed(difference)}</b>
          {low !== null && high !== null && <Interval low={low} high={high} middle={difference} wide={wide} says={sure ? `${sure}, ${signed(low)} to ${signed(high)}` : `${signed(low)} to ${signed(high)}, no difference shown`} />}
          {low !== null && high !== null && <span class="muted">{`${signed(low)} to ${signed(high)}`}</span>}
        </span>
      )}
    </>
  );
}

const [WIDE, TALL] = [86, 12];

/** Where the difference may lie: left of the line is better. */
function Interval({ low, high, middle, wide, says }: { low: number; high: number; middle: number; wide: number; says: string }) {
  const x = (value: number) => (wide > 0 ? WIDE / 2 + (value / wide) * (WIDE / 2 - 3) : WIDE / 2);
  return (
    <svg class="interval" width={WIDE} height={TALL} viewBox={`0 0 ${WIDE} ${TALL}`} role="img" aria-label={says}>
      <path class="zero" d={`M${WIDE / 2} 0V${TALL}`} />
      <rect x={x(low).toFixed(1)} y="3.5" width={Math.max(1.5, x(high) - x(low)).toFixed(1)} height="5" rx="2.5" />
      <circle cx={x(middle).toFixed(1)} cy="6" r="3" />
    </svg>
  );
}
