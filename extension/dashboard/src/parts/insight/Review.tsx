// Suspected label errors, one by one: what speaks against the label, and what a person says of it.
import { useEffect, useState } from "preact/hooks";
import { exportSelection, FORMATS } from "../../exports";
import * as format from "../../format";
import { fault } from "../../hub";
import type { Model } from "../../model";
import { nameOf, table, type Suspect } from "../../review";
import { LARGE } from "../../shown";
import { VERDICTS, type Verdict } from "../../tagging";
import type { TabProps } from "../Tabs";
import { Losses } from "./Losses";
import { Picture } from "./Picture";

const KEYS: Record<string, Verdict> = { w: "wrong", f: "fine", u: "unsure" };
const SAID: Record<Verdict, string> = { wrong: "The label is wrong", fine: "The label is right", unsure: "Not to be told" };
/** Rows of the queue around the one that is looked at. */
const AROUND = 5;

export function Review({ model, session }: TabProps) {
  const { review, tags } = model;
  useEffect(() => review.watch(), [review]);
  useEffect(() => { void tags.refresh(); }, [tags, session.id]);
  useKeys(model);
  const row = review.current();
  if (!row) return <p class="empty">{nothing(model)}</p>;
  return (
    <section class="review" aria-label="Review of labels">
      <Head model={model} />
      <div class="sides">
        <One model={model} row={row} />
        <Queue model={model} row={row} />
      </div>
      {(tags.wrong || review.fault) && <p class="said wrong" role="alert">{tags.wrong || review.fault}</p>}
    </section>
  );
}

function nothing({ review, session }: Model): string {
  if (!review.loaded) return review.fault || `Adding up ${format.count(session?.samples ?? 0)} records…`;
  return "No sample of the training is known by its index or a key: none can be followed from one epoch to the next, and no label be suspected.";
}

/** `w f u` judge, arrows walk, `0` takes back; none while the person types. */
function useKeys({ review }: Model): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement | null;
      if (event.ctrlKey || event.metaKey || event.altKey || target?.closest("input, select, textarea, dialog, [role=tablist], table")) return;
      const verdict = KEYS[event.key.toLowerCase()];
      if (verdict) void review.judge(verdict);
      else if (event.key === "0") void review.judge(null);
      else if (event.key === "ArrowRight" || event.key === "ArrowDown") review.walk(1);
      else if (event.key === "ArrowLeft" || event.key === "ArrowUp") review.walk(-1);
      else return;
      event.preventDefault();
    };
    document.addEventListener("keydown", onKey);
    return () => { document.removeEventListener("keydown", onKey); };
  }, [review]);
}

function Head({ model: { review, tags, hub, session } }: { model: Model }) {
  const [said, setSaid] = useState("");
  const suspected = review.rows.filter(({ is_label_issue, verdict }) => is_label_issue || verdict).length;
  const done = review.rows.filter(({ verdict }) => verdict).length;
  const wrong = tags.counts["label:wrong"] ?? 0;
  const by = review.rows.some(({ margin }) => margin !== null) ? "area under the margin" : "mean loss (margins were not recorded)";
  const save = async (kind: string) => {
    setSaid("");
    if (!session) return;
    const base = `${session.id}-labels`;
    try {
      if (kind === "table") {
        const rows = (await hub.get(`sessions/${session.id}/suspects?run=${session.run}`)) as Suspect[];
        await hub.save(`${base}.csv`, new Blob([table(rows)], { type: "text/csv" }));
      } else await exportSelection(hub, session.id, { select: "tag=label:wrong", run: session.run, what: "indices", format: kind as keyof typeof FORMATS }, `${base}-wrong`);
    } catch (error) {
      setSaid(fault(error));
    }
  };
  return (
    <div class="head">
      <h2>Suspected labels <small>{`by ${by} · ${format.count(suspected)} suspected · ${format.count(done)} reviewed · ${format.count(wrong)} wrong`}</small></h2>
      <span class="tools">
        <select class="export" aria-label="Export" value="" title="All that were found wrong, or the whole ranking" onChange={({ currentTarget }) => { const kind = currentTarget.value; currentTarget.value = ""; void save(kind); }}>
          <option value="" disabled>Export…</option>
          {Object.entries(FORMATS).map(([kind, words]) => <option key={kind} value={kind}>{`Wrong ones: indices, ${words}`}</option>)}
          <option value="table">All, with evidence: CSV for cleanlab and pandas</option>
        </select>
      </span>
      {said && <p class="said wrong about" role="alert">{said}</p>}
    </div>
  );
}

function One({ model, row }: { model: Model; row: Suspect }) {
  const { shown, review } = model;
  const { sample, loader } = row;
  const paused = model.session?.state === "paused";
  useEffect(() => { if (sample !== null && paused) shown.want([sample], loader, LARGE); }, [shown, sample, loader, paused]);
  const item = sample === null ? undefined : shown.get(sample, loader, LARGE);
  return (
    <div class="one">
      <div class="stage">{item ? <Picture shown={item} /> : <p class="blank reason">{sample === null ? "It is known by a key: only samples with an index can be read from the data set." : shown.why() || "Reading it from the data set…"}</p>}</div>
      <div class="facts-of">
        <h3>{sample === null ? `Sample “${row.key ?? ""}”` : `Sample ${format.count(sample)}`} <small>{`${format.count(row.place)} in the ranking${row.is_label_issue ? ", suspected" : ""}`}</small></h3>
        <p class="labels">
          <span>label <strong>{label(row.given_label, item?.target)}</strong></span>
          {row.predicted_label !== null && <span>model says <strong class={row.predicted_label === row.given_label ? "" : "tag"}>{label(row.predicted_label)}</strong></span>}
        </p>
        <p class="evidence">{`${row.evidence.charAt(0).toUpperCase()}${row.evidence.slice(1)}.`}</p>
        <Losses history={review.history} />
        <p class="verdicts" role="group" aria-label="What is the label?">
          {VERDICTS.map((verdict) => (
            <button key={verdict} class={`verdict ${verdict}`} aria-pressed={row.verdict === verdict} title={`${SAID[verdict]} (${verdict.charAt(0)})`} onClick={() => { void review.judge(verdict); }}>
              {verdict} <kbd>{verdict.charAt(0)}</kbd>
            </button>
          ))}
          <button class="quiet" disabled={!row.verdict} title="Take back what was said (0)" onClick={() => { void review.judge(null); }}>take back <kbd>0</kbd></button>
          <span class="pager">
            <button class="quiet" aria-label="The one before" title="The one before (←)" onClick={() => { review.walk(-1); }}>←</button>
            <button class="quiet" aria-label="The next" title="The next (→)" onClick={() => { review.walk(1); }}>→</button>
          </span>
        </p>
      </div>
    </div>
  );
}

function Queue({ model: { review }, row }: { model: Model; row: Suspect }) {
  const at = review.rows.indexOf(row);
  const from = Math.max(0, Math.min(at - AROUND, review.rows.length - 2 * AROUND - 1));
  return (
    <table class="queue" aria-label="The ranking around this sample">
      <thead><tr><th scope="col">rank</th><th scope="col">sample</th><th scope="col" title="mean score of its own class minus the highest other one">margin</th><th scope="col" title="mean probability of its own class">confidence</th><th scope="col">verdict</th></tr></thead>
      <tbody>
        {review.rows.slice(from, from + 2 * AROUND + 1).map((each) => (
          <tr key={nameOf(each)} class={each === row ? "chosen" : ""} aria-selected={each === row} onClick={() => { review.look(each); }}>
            <td>{format.count(each.place)}</td><td><span class="key">{nameOf(each)}</span></td><td>{format.loss(each.margin)}</td><td>{format.loss(each.label_quality)}</td>
            <td class={each.verdict === "wrong" ? "tag" : ""}>{each.verdict ?? (each.is_label_issue ? "suspected" : "–")}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** A class is a whole number more often than not; the sample itself may know a name. */
function label(value: number | null, target?: string | null): string {
  return value === null ? (target ?? "–") : String(value);
}
