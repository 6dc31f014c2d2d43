// Samples that a selection means: as pictures, with what is known of each; tagged, left out, or put into a file.
import { useEffect, useState } from "preact/hooks";
import { LIVE } from "../../controls";
import { PRESETS, type Meant } from "../../explore";
import { FORMATS } from "../../exports";
import * as format from "../../format";
import type { Model } from "../../model";
import type { Session } from "../../protocol";
import { Selection } from "../../selection";
import { named as samplesNamed, TAG } from "../../tagging";
import { Chosen } from "../Chosen";
import { PHASES } from "../Histogram";
import { ForkOn } from "../runs/ForkOn";
import type { TabProps } from "../Tabs";
import { Losses } from "./Losses";
import { Picture } from "./Picture";

const PAGE = 24;

export function Samples({ model, session }: TabProps) {
  const { explore, tags } = model;
  const [selection, setSelection] = useState(new Selection());
  useEffect(() => explore.watch(), [explore]);
  useEffect(() => { void tags.refresh(); }, [tags, session.id]);
  useEffect(() => { setSelection(new Selection()); }, [explore.asked]);
  const { answer, rows } = explore;
  const acts = answer?.phase === "train" && LIVE.has(session.state) && session.controls !== undefined;
  return (
    <section class="explore" aria-label="Samples">
      <Query model={model} />
      {answer && answer.count > 0 && <Actions model={model} selection={selection} />}
      {explore.fault && <p class="said wrong" role="alert">{explore.fault}</p>}
      {!answer && !explore.fault && <p class="empty">{`Looking through ${format.count(session.samples)} records…`}</p>}
      {answer?.count === 0 && <p class="empty">{`${answer.says.charAt(0).toUpperCase()}${answer.says.slice(1)}.`}</p>}
      {rows.length > 0 && (
        <div class="sides">
          <Gallery model={model} session={session} selection={selection} onSelect={setSelection} />
          <Large model={model} />
        </div>
      )}
      {rows.length > 0 && acts && <Chosen model={model} session={session} selection={selection} onClear={() => { setSelection(new Selection()); }} />}
    </section>
  );
}

/** What is meant, in words and as typed. */
function Query({ model: { explore, tags, samples } }: { model: Model }) {
  const { asked, answer } = explore;
  const [draft, setDraft] = useState<string | null>(null);
  useEffect(() => { setDraft(null); }, [asked]);
  const names = Object.keys(tags.counts);
  const of = asked.evaluation ? asked.evaluation : `${PHASES[asked.phase ?? "train"]}${asked.epoch === undefined || asked.epoch === null ? ", newest losses" : `, epoch ${asked.epoch}`}`;
  const epoch = samples.histogram?.epoch;
  return (
    <form class="query" onSubmit={(event) => { event.preventDefault(); explore.select({ ...asked, select: draft ?? asked.select ?? "" }); }}>
      <div class="field">
        <label class="grow">Select <input
          type="text" class="grow" spellcheck={false} value={draft ?? asked.select} placeholder="all samples" aria-describedby="terms"
          onInput={({ currentTarget }) => { setDraft(currentTarget.value); }} onKeyDown={({ key }) => { if (key === "Escape") setDraft(null); }}
        /></label>
        <select aria-label="Losses of" value="" onChange={({ currentTarget }) => { const kind = currentTarget.value; currentTarget.value = ""; explore.select({ select: asked.select ?? "", ...(kind === "scan" || kind === "test" || kind === "valid" ? { phase: kind } : { phase: "train", ...(kind === "epoch" && epoch !== undefined ? { epoch } : {}) }) }); }}>
          <option value="" disabled>{of}</option>
          <option value="newest">training: each sample's newest loss</option>
          {epoch !== undefined && <option value="epoch">{`training: epoch ${epoch}`}</option>}
          <option value="valid">the script's own validation</option>
          <option value="scan">the newest scan</option>
          <option value="test">the newest test</option>
        </select>
        <button>Show</button>
        <span class="choice under" role="group" aria-label="Often asked">
          {PRESETS.map(([label, select, title]) => <button key={label} type="button" class="quiet" title={`${title}: ${select}`} aria-pressed={asked.select === select} onClick={() => { explore.select({ ...asked, select }); }}>{label}</button>)}
          {names.map((name) => <button key={name} type="button" class="quiet" title={`tag=${name}`} aria-pressed={asked.select === `tag=${name}`} onClick={() => { explore.select({ ...asked, select: `tag=${name}` }); }}>{name} <small class="figures">{format.count(tags.counts[name] ?? 0)}</small></button>)}
        </span>
        <small id="terms" class="under">{"Terms side by side: loss=2: quantile=0.99: worst=50 class=3,5 region=hard cluster=0 tag=… sample=7,10:19; ! in front of one turns it around."}</small>
      </div>
      <p class="meant" role="status"><strong class="figures">{answer ? format.counted(answer.count, "sample") : "…"}</strong> <span class="muted">{`of ${of}${answer && answer.count > answer.rows.length ? `; the ${format.count(answer.rows.length)} with the highest loss are shown` : ""}`}</span></p>
    </form>
  );
}

/** What can be done to all that are meant, or to those that are chosen. */
function Actions({ model, selection }: { model: Model; selection: Selection }) {
  const { explore, tags } = model;
  const [name, setName] = useState("");
  const [said, setSaid] = useState("");
  const rows = selection.chosen.size ? explore.rows.filter(({ sample }) => sample !== null && selection.chosen.has(sample)) : explore.rows;
  const named = rows.filter(({ sample, key, identity }) => (sample !== null || key !== null) && identity !== "stream");
  const whom = selection.chosen.size ? `the ${format.count(rows.length)} chosen` : `${rows.length < (explore.answer?.count ?? 0) ? "the shown" : "all"} ${format.count(rows.length)}`;
  const put = async (off: boolean) => {
    if (!TAG.test(name)) {
      setSaid("a tag is made of letters, digits and _ . - and may have a group in front: quality:blurred");
      return;
    }
    setSaid("");
    let changed = 0;
    for (const loader of new Set(named.map((row) => row.loader ?? ""))) {
      const done = await tags.put(name, named.filter((row) => (row.loader ?? "") === loader), loader, off);
      if (done === null) return;
      changed += done;
    }
    setSaid(`${name}: ${off ? "taken off" : "put on"} ${format.counted(changed, "sample")}`);
    explore.again();
  };
  return (
    <div class="field">
      <form class="field" onSubmit={(event) => { event.preventDefault(); void put(false); }}>
        <label>Tag <input type="text" class="short" list="tags" value={name} placeholder="blurred" onInput={({ currentTarget }) => { setName(currentTarget.value); setSaid(""); }} /></label>
        <datalist id="tags">{Object.keys(tags.counts).map((each) => <option key={each} value={each} />)}</datalist>
        <button disabled={!name || !named.length || !tags.there}>{`Put on ${whom}`}</button>
        <button type="button" class="quiet" disabled={!name || !named.length} onClick={() => { void put(true); }}>take off</button>
      </form>
      <span class="grow" />
      <ForkOn model={model} request={selection.chosen.size ? { ...explore.asked, select: samplesNamed(named) } : explore.asked} />
      <select class="export" aria-label="Export" value="" title="All that are meant, not only those that are shown" onChange={({ currentTarget }) => { const [what, kind] = currentTarget.value.split(" "); currentTarget.value = ""; void explore.export(what as "indices" | "rows", kind as keyof typeof FORMATS); }}>
        <option value="" disabled>Export…</option>
        {Object.entries(FORMATS).flatMap(([kind, words]) => [<option key={`i${kind}`} value={`indices ${kind}`}>{`Indices, ${words}`}</option>, <option key={`r${kind}`} value={`rows ${kind}`}>{`Rows, ${words}`}</option>])}
      </select>
      <p class={tags.wrong || explore.said ? "said wrong under" : "said under"} role="status">{tags.wrong || explore.said || said}</p>
    </div>
  );
}

interface GalleryProps {
  model: Model;
  session: Session;
  selection: Selection;
  /** Of what is chosen then: keys may come faster than the page is drawn. */
  onSelect: (change: (chosen: Selection) => Selection) => void;
}

function Gallery({ model, session, selection, onSelect }: GalleryProps) {
  const { explore, shown } = model;
  const { rows, at } = explore;
  const from = Math.floor(at / PAGE) * PAGE;
  const page = rows.slice(from, from + PAGE);
  const paused = session.state === "paused";
  const loader = page[0]?.loader ?? "";
  const wanted = page.flatMap(({ sample, identity }) => (sample !== null && identity === "index" ? [sample] : []));
  const key = wanted.join();
  useEffect(() => { if (paused) shown.want(wanted, loader); }, [shown, key, loader, paused]);
  const samples = rows.map(({ sample }) => sample);
  const toggle = (sample: number, range: boolean) => { onSelect((chosen) => chosen.toggle(sample, samples, range)); };
  const onKey = (event: KeyboardEvent) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 6, ArrowUp: -6, PageDown: PAGE, PageUp: -PAGE }[event.key];
    const sample = explore.rows[explore.at]?.sample ?? null; // of now, not of when this was drawn
    if (step) explore.look(explore.at + step);
    else if (event.key.toLowerCase() === "x" && sample !== null) toggle(sample, event.shiftKey);
    else return;
    event.preventDefault();
  };
  const why = shown.why();
  return (
    <div>
      {why && <p class="remark" role="status">{why}</p>}
      <ul class="gallery" tabIndex={0} role="listbox" aria-label="The samples that are meant" aria-multiselectable={true} onKeyDown={onKey}>
        {page.map((row, place) => <Card key={`${row.sample ?? row.key ?? ""}-${from + place}`} model={model} row={row} looked={from + place === at} chosen={row.sample !== null && selection.chosen.has(row.sample)} onLook={(range) => { explore.look(from + place); if (range && row.sample !== null) toggle(row.sample, true); }} onChoose={(range) => { if (row.sample !== null) toggle(row.sample, range); }} />)}
      </ul>
      {rows.length > PAGE && (
        <p class="field">
          <button class="quiet" disabled={from === 0} onClick={() => { explore.look(from - PAGE); }}>← earlier</button>
          <small class="figures">{`${format.count(from + 1)} to ${format.count(from + page.length)} of ${format.count(rows.length)}`}</small>
          <button class="quiet" disabled={from + PAGE >= rows.length} onClick={() => { explore.look(from + PAGE); }}>more →</button>
        </p>
      )}
    </div>
  );
}

interface CardProps {
  model: Model;
  row: Meant;
  looked: boolean;
  chosen: boolean;
  onLook: (range: boolean) => void;
  onChoose: (range: boolean) => void;
}

function Card({ model: { shown }, row, looked, chosen, onLook, onChoose }: CardProps) {
  const item = row.sample === null ? undefined : shown.get(row.sample, row.loader ?? "");
  return (
    <li class={`tile-of${looked ? " looked" : ""}`} role="option" aria-selected={chosen} onClick={({ shiftKey }) => { onLook(shiftKey); }}>
      <Picture shown={item} small />
      <span class="line">
        <input type="checkbox" tabIndex={-1} checked={chosen} disabled={row.sample === null} aria-label={`Choose sample ${nameOf(row)}`} onClick={(event) => { event.stopPropagation(); onChoose(event.shiftKey); }} />
        <span class="figures key">{nameOf(row)}</span>
        <strong class="figures" title={format.loss(row.loss)}>{typeof row.loss === "number" ? format.figure(row.loss) : format.loss(row.loss)}</strong>
      </span>
      {(row.target !== null || row.tags) && <small class="line">{row.target !== null && <span>{`${row.target}${row.predicted !== null && row.predicted !== row.target ? ` → ${row.predicted}` : ""}`}</span>}{row.tags && <span class="tag">{row.tags}</span>}</small>}
    </li>
  );
}

/** The one that is looked at. */
function Large({ model }: { model: Model }) {
  const { explore, shown } = model;
  const row = explore.rows[explore.at];
  const sample = row?.identity === "index" ? row.sample : null;
  const loader = row?.loader ?? "";
  if (!row) return null;
  const item = sample === null ? undefined : shown.get(sample, loader);
  const facts: [string, string][] = [
    ["loss", `${format.loss(row.loss)} (${row.certificate})`], ["label", row.target === null ? (item?.target ?? "–") : String(row.target)], ["model says", row.predicted === null ? "–" : String(row.predicted)],
    ["confidence", format.loss(row.confidence)], ["margin", format.loss(row.margin)], ["at", `step ${format.count(row.step)}, epoch ${row.epoch}`], ["tags", row.tags ?? "–"],
  ];
  return (
    <aside class="large" aria-label="The sample that is looked at">
      <h3>{row.sample === null ? (row.key ?? "without an index") : `Sample ${format.count(row.sample)}`} <small>{loader}</small></h3>
      {item && <div class="stage"><Picture shown={item} /></div>}
      <dl>{facts.filter(([, value]) => value !== "–").map(([name, value]) => <div key={name}><dt>{name}</dt><dd class="figures">{value}</dd></div>)}</dl>
      {(row.sample !== null || row.key !== null) && <Losses history={explore.history} />}
    </aside>
  );
}

function nameOf({ sample, key }: Meant): string {
  return sample === null ? (key ?? "–") : String(sample);
}
