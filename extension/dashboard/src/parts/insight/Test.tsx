// How good is it now: a test on any loader, how far it has come, what came of it, and of those before it.
import { useEffect, useState } from "preact/hooks";
import { held, LIVE } from "../../controls";
import { classes, confusion, figures, residuals, type Evaluation } from "../../evaluations";
import * as format from "../../format";
import type { Model } from "../../model";
import { Outcome } from "../Outcome";
import { Progress } from "../Progress";
import type { TabProps } from "../Tabs";

export function Test({ model, session }: TabProps) {
  const { evaluations } = model;
  const asked = model.commands.at("test");
  useEffect(() => { void evaluations.refresh(); }, [evaluations, session.id, asked?.state, session.state]);
  if (evaluations.missing) return <p class="empty">{evaluations.fault}</p>;
  const current = evaluations.current();
  return (
    <section aria-label="Tests">
      <Ask model={model} />
      {evaluations.fault && <p class="said wrong" role="alert">{evaluations.fault}</p>}
      {evaluations.rows.length > 0 && <Rows model={model} />}
      {evaluations.loaded && !evaluations.rows.length && <p class="empty">No test so far. A test runs the model over a loader of the script, at a pause, and puts everything back.</p>}
      {current && <Result one={current} before={before(evaluations.rows, current, evaluations.chosen)} model={model} />}
    </section>
  );
}

/** What it is compared with: the one that was chosen first, else the one before it on the same loader. */
function before(rows: readonly Evaluation[], one: Evaluation, chosen: readonly string[]): Evaluation | undefined {
  const other = chosen.length > 1 ? rows.find(({ label }) => label === chosen[0]) : undefined;
  return other ?? rows.slice(0, rows.indexOf(one)).reverse().find(({ kind, loader }) => kind === one.kind && loader === one.loader);
}

function Ask({ model }: { model: Model }) {
  const { session, evaluations } = model;
  const [loader, setLoader] = useState("");
  const [checkpoint, setCheckpoint] = useState("");
  if (!session) return null;
  const pending = model.commands.pending("test");
  const paused = session.state === "paused";
  const checkpoints = session.controls?.checkpoints ?? [];
  const why = !LIVE.has(session.state) ? "The script has ended: its model is gone." : !paused && !held(session) ? "Tests run at a pause." : "";
  const ask = (event: Event) => {
    event.preventDefault();
    model.command("test", { name: "test", args: { ...(loader && { loader }), ...(checkpoint && { checkpoint }) } });
  };
  return (
    <form class="field apart" onSubmit={ask}>
      <button class="primary" disabled={!paused || pending !== null || model.connection !== "open"} title="Run the model over the loader now; the script does not notice">Test now</button>
      <label>on <input type="text" size={12} list="loaders" value={loader} placeholder="validation" aria-label="Loader" title="loader1, ..., or the name of its variable; empty: one that is not trained on" onInput={({ currentTarget }) => { setLoader(currentTarget.value.trim()); }} /></label>
      <datalist id="loaders">{[...new Set(evaluations.rows.map((row) => row.loader))].map((name) => <option key={name} value={name} />)}</datalist>
      {checkpoints.length > 0 && (
        <label>with the weights of <select aria-label="Weights" value={checkpoint} onChange={({ currentTarget }) => { setCheckpoint(currentTarget.value); }}>
          <option value="">now</option>
          {checkpoints.map(({ name }) => <option key={name} value={name}>{name}</option>)}
        </select></label>
      )}
      <Progress model={model} session={session} />
      {why && <small>{why}</small>}
      <div class="under"><Outcome model={model} place="test" room /></div>
    </form>
  );
}

const NAMES = ["loss", "accuracy", "perplexity"];

function Rows({ model: { evaluations } }: { model: Model }) {
  const { rows } = evaluations;
  const names = NAMES.filter((name) => rows.some((row) => figures(row).some(([each]) => each === name)));
  const current = evaluations.current();
  return (
    <div class="scroll">
      <table class="plain tests" aria-label="Tests and scans">
        <thead><tr>{["label", "step", "loader", "samples", ...names, "how"].map((head) => <th key={head} scope="col">{head}</th>)}</tr></thead>
        <tbody>
          {[...rows].reverse().map((row) => {
            const found = new Map(figures(row));
            return (
              <tr key={row.label} class={row === current ? "chosen" : ""} title={`${format.moment(row.began)}, ${format.figure(row.seconds)} s, by ${row.by}`}>
                <td><button class="quiet step" aria-pressed={evaluations.chosen.includes(row.label)} title="Look at it; two together are compared" onClick={() => { evaluations.compare(row.label); }}>{row.label}</button></td>
                <td>{format.count(row.step)}</td><td>{row.loader}{row.checkpoint ? ` (${row.checkpoint})` : ""}</td>
                <td>{format.count(row.count)}{row.partial && <span class="tag" title={row.reason}> partial</span>}</td>
                {names.map((name) => <td key={name}>{format.loss(found.get(name))}</td>)}
                <td class="text">{row.how}{row.verified === false && <span class="tag"> not verified</span>}{row.reason && <small>{` ${row.reason}`}</small>}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

function Result({ one, before, model }: { one: Evaluation; before: Evaluation | undefined; model: Model }) {
  const matrix = confusion(one);
  const old = new Map(before ? figures(before) : []);
  const look = (select: string) => { model.explore.select({ select, phase: one.kind, evaluation: one.label }); model.open("Samples"); };
  const rest = residuals(one);
  return (
    <section class="result" aria-label={one.label}>
      <h3>{one.label} <small>{`${one.loader}, step ${format.count(one.step)}${before ? `, beside ${before.label} of step ${format.count(before.step)}` : ""}`}</small></h3>
      <dl class="figures-of">
        {figures(one).map(([name, value]) => {
          const was = old.get(name);
          return <div key={name}><dt>{name}</dt><dd class="figures"><strong>{format.loss(value)}</strong>{was !== undefined && <small>{` ${value - was > 0 ? "+" : "−"}${format.figure(Math.abs(value - was))}`}</small>}</dd></div>;
        })}
        {rest.map(([name, value]) => <div key={name}><dt>{`residual ${name}`}</dt><dd class="figures">{format.loss(value)}</dd></div>)}
      </dl>
      <div class="sides">
        {matrix && <Matrix counts={matrix} onLook={look} />}
        {classes(one).length > 0 && <Classes one={one} before={before} onLook={look} />}
      </div>
      <p class="field"><button onClick={() => { look("worst=100"); }}>Look at its worst samples</button></p>
    </section>
  );
}

/** Rows: what is true. Columns: what the model says. Shades by the share of the row; each cell opens its samples. */
function Matrix({ counts, onLook }: { counts: number[][]; onLook: (select: string) => void }) {
  return (
    <div class="scroll">
      <table class="matrix" aria-label="Confusion matrix: rows are labels, columns what the model says">
        <thead><tr><th scope="col" title="label down, prediction across">↓ →</th>{counts.map((_, place) => <th key={place} scope="col">{place}</th>)}</tr></thead>
        <tbody>
          {counts.map((row, label) => {
            const whole = row.reduce((sum, count) => sum + count, 0) || 1;
            return (
              <tr key={label}>
                <th scope="row">{label}</th>
                {row.map((count, said) => (
                  <td key={said} class={`${said === label ? "right" : "miss"} shade${count ? Math.max(1, Math.ceil((count / whole) * 5)) : 0}`}>
                    {count ? <button class="quiet" title={`label ${label}, model says ${said}: ${format.counted(count, "sample")}, ${format.percent(count / whole)} of the label's`} onClick={() => { onLook(`class=${label} predicted=${said}`); }}>{count}</button> : ""}
                  </td>
                ))}
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

function Classes({ one, before, onLook }: { one: Evaluation; before: Evaluation | undefined; onLook: (select: string) => void }) {
  const old = new Map(before ? classes(before).map((each) => [String(each.class), each.accuracy]) : []);
  const rows = [...classes(one)].sort((a, b) => (a.accuracy ?? 2) - (b.accuracy ?? 2));
  return (
    <div class="scroll">
      <table aria-label="By class, the worst first">
        <thead><tr><th scope="col">class</th><th scope="col">samples</th><th scope="col">accuracy</th>{before && <th scope="col">{before.label}</th>}</tr></thead>
        <tbody>
          {rows.slice(0, 50).map((each) => (
            <tr key={each.class}>
              <td><button class="quiet step" onClick={() => { onLook(`class=${each.class}`); }}>{each.class}</button></td><td>{format.count(each.count)}</td><td>{format.loss(each.accuracy)}</td>
              {before && <td class="muted">{format.loss(old.get(String(each.class)))}</td>}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
