// The twenty worst samples, with what names them: by their newest loss, or by how they were learned.
import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import { LIVE } from "../controls";
import * as format from "../format";
import type { Model } from "../model";
import { LAST, missing, ORDERS } from "../orders";
import type { Session } from "../protocol";
import { parts, type Learned, type Named, type Recorded, type SampleStore } from "../samples";
import { Selection } from "../selection";
import { Chosen } from "./Chosen";
import { PHASES } from "./Histogram";
import { Legend, Parts, Swatch, terms } from "./Parts";
import { Rows } from "./Rows";

interface Row {
  key: string;
  /** Its index in the data set, where that is known: by it a sample is chosen. */
  sample: number | null;
  cells: (string | VNode)[];
  detail: VNode | string;
}

/** What is listed, whatever the order: heads with their explanation, and rows. */
export interface List {
  heads: [name: string, title: string][];
  rows: Row[];
}

export function Worst({ model, session }: { model: Model; session: Session }) {
  const { samples } = model;
  const [at, setAt] = useState(0);
  const [selection, setSelection] = useState(new Selection());
  const { order, histogram } = samples;
  useEffect(() => { setAt(0); }, [order, samples.phase, session.id]);
  useEffect(() => { setSelection(new Selection()); }, [samples.phase, session.id]);
  if (!histogram || !session.samples) return null;
  const list = order === LAST ? recorded(samples.recorded) : learned(samples);
  const reason = nothing(samples, session);
  const of = samples.phase === "train" ? "" : `${PHASES[samples.phase]}: `;
  const acts = samples.phase === "train" && session.controls !== undefined && LIVE.has(session.state);
  const row = list.rows[Math.min(at, list.rows.length - 1)];
  return (
    <section class="card" aria-label="Worst samples">
      <div class="head">
        <h2>Worst samples</h2>
        <span class="tools">
          <select aria-label="Order of the samples" title="By what the worst are chosen" value={order.name} onChange={({ currentTarget }) => { samples.choose(ORDERS[currentTarget.selectedIndex] ?? LAST); }}>
            {ORDERS.map(({ name, label }) => <option key={name} value={name}>{label}</option>)}
          </select>
        </span>
        <small class="about">{of + order.about + (order === LAST ? ` of epoch ${histogram.epoch}` : "")}</small>
      </div>
      {reason
        ? <p class="empty">{reason}</p>
        : <Rows list={list} about={order.about} at={at} onMove={setAt} selection={acts ? selection : null} onSelect={setSelection} />}
      {!reason && order === LAST && <Legend names={terms(samples.recorded)} />}
      {!reason && <p class="detail" aria-live="polite">{row?.detail}</p>}
      {acts && <Chosen model={model} session={session} selection={selection} onClear={() => { setSelection(new Selection()); }} />}
    </section>
  );
}

/** Why there is no list; empty where there is one. */
function nothing({ order, loaded, fault, learned, recorded, histogram }: SampleStore, session: Session): string {
  if (!loaded) return fault || (order === LAST ? "Reading the records…" : `Adding up ${format.count(session.samples)} records…`);
  if (order === LAST) return recorded.length ? "" : "No losses of samples in this epoch.";
  if (learned.length) return missing(order, learned);
  return histogram?.identities["stream"]
    ? "The samples of a stream are known by their place in it only: which of them is the same as one of another epoch is not known. Where a sample carries a key (a field __key__, id or idx), it is followed by that."
    : "No sample of this phase is known by its index or a key: none can be followed from one epoch to the next.";
}

/** What a sample is called, and by what: an index says nothing of it, for that is what is expected. */
function name({ sample, key }: Named): string | VNode {
  if (sample !== null) return String(sample);
  return key === null ? "–" : <span class="key" title={key}>{key}</span>;
}

function head(rows: readonly (Named & { identity?: string })[]): [string, string] {
  if (rows.some(({ sample, key }) => sample === null && key !== null)) return ["sample", "its index in the data set, or the key that it carries"];
  return rows.some(({ identity }) => identity === "stream") ? ["sample", "its index in the data set, or its place in the stream"] : ["index", "in the data set"];
}

function recorded(rows: readonly Recorded[]): List {
  const averaged = rows.some(({ valid }) => valid > 1);
  const tagged = rows.some((row) => tag(row));
  const heads: List["heads"] = [head(rows), ["step", "of the optimizer"], ["row", "in its batch"]];
  if (averaged) heads.push(["values", "tokens, pixels or the like that its loss is the mean of"]);
  heads.push(["loss", "the newest of this epoch"]);
  const names = terms(rows);
  const largest = Math.max(0, ...rows.map(({ loss }) => (typeof loss === "number" && Number.isFinite(loss) ? loss : 0)));
  return {
    heads: tagged ? [...heads, ["", ""]] : heads,
    rows: rows.map((row) => ({
      key: `${row.backward}-${row.position}`,
      sample: row.identity === "index" ? row.sample : null,
      cells: [
        name(row), format.count(row.step), String(row.position), ...(averaged ? [format.count(row.valid)] : []),
        <><Parts row={row} names={names} largest={largest} /><strong>{format.loss(row.loss)}</strong></>,
        ...(tagged ? [tag(row) ? <span class="tag">{tag(row)}</span> : ""] : []),
      ],
      detail: describe(row, names),
    })),
  };
}

function tag({ certificate, identity }: Recorded): string {
  return [certificate === "exact" ? "" : certificate, identity === "stream" ? "stream" : ""].filter(Boolean).join(", ");
}

function called({ sample, key }: Named, identity = "index"): string {
  if (identity === "stream") return `Sample ${sample} of the stream`;
  if (sample !== null) return `Sample ${sample} of the dataset`;
  return key === null ? "A sample without a proven index" : `Sample “${key}”`;
}

function describe(row: Recorded, names: readonly string[]): VNode {
  const mean = row.valid > 1 ? `, the mean of ${format.count(row.valid)} values` : "";
  return (
    <>
      {`${called(row, row.identity)}: loss ${format.loss(row.loss)}${mean}, at step ${format.count(row.step)} in row ${row.position} of its batch; ${row.certificate}, identity ${row.identity}.`}
      {parts(row).map(([term, value]) => <span key={term}> <span class="term"><Swatch place={names.indexOf(term)} />{` ${term} ${format.loss(value)}`}</span></span>)}
    </>
  );
}

function learned({ order, learned }: SampleStore): List {
  return {
    heads: [head(learned), ...order.columns.map(({ name, title }): [string, string] => [name, title])],
    rows: learned.map((row) => ({
      key: String(row.sample ?? row.key),
      sample: row.sample,
      cells: [name(row), ...order.columns.map(({ text }, place) => (place + 1 < order.columns.length ? text(row) : <strong>{text(row)}</strong>))],
      detail: history(row),
    })),
  };
}

/** All that is known of how a sample was learned. */
function history(row: Learned): string {
  const said = [
    `${called(row)}: seen ${format.counted(row.count, "time")} in ${format.counted(row.epochs, "epoch")}`,
    `loss ${format.loss(row.loss_mean)} on average, from ${format.loss(row.loss_min)} to ${format.loss(row.loss_max)}, last ${format.loss(row.loss_last)}`,
  ];
  if (row.forgetting !== null) said.push(row.learned === null ? "never right" : `right for the first time in epoch ${row.learned}, forgotten ${format.counted(row.forgetting, "time")}`);
  if (row.confidence !== null) said.push(`confidence ${format.loss(row.confidence)} ± ${format.loss(row.variability)}`);
  if (row.margin !== null) said.push(`margin ${format.loss(row.margin)}`);
  return `${said.join("; ")}.`;
}
