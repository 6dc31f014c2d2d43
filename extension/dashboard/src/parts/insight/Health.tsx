// Checks of the run's health: a row each, with its verdict, the numbers it was judged by, and what to do.
import { useEffect, useState } from "preact/hooks";
import { LIVE } from "../../controls";
import * as format from "../../format";
import type { Found, Value, Verdict } from "../../health";
import type { Model } from "../../model";
import { Outcome } from "../Outcome";
import { Progress } from "../Progress";
import type { TabProps } from "../Tabs";

const MARKS: Record<Verdict, [mark: string, words: string]> = { good: ["✓", "good"], warning: ["!", "look at it"], bad: ["✗", "bad"], unknown: ["?", "not known"] };
const ROWS = 8;

export function Health({ model, session }: TabProps) {
  const { health } = model;
  const asked = model.commands.at("health");
  useEffect(() => { void health.refresh(); }, [health, session.id, asked?.state]);
  if (health.missing) return <p class="empty">{health.fault}</p>;
  return (
    <section aria-label="Health">
      <Ask model={model} />
      {health.fault && <p class="said wrong" role="alert">{health.fault}</p>}
      {health.loaded && !health.found.length && <p class="empty">Nothing was examined so far.</p>}
      {health.found.length > 0 && (
        <div class="scroll">
          <table class="plain health" aria-label="Checks, the worst first">
            <thead><tr>{["verdict", "check", "what was found", "what to do", "numbers"].map((head) => <th key={head} scope="col">{head}</th>)}</tr></thead>
            <tbody>{health.found.map((found) => <Row key={found.check} found={found} />)}</tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function Ask({ model }: { model: Model }) {
  const { session } = model;
  if (!session) return null;
  const paused = session.state === "paused";
  return (
    <div class="field apart">
      <button class="primary" disabled={!paused || model.connection !== "open" || model.commands.pending("health") !== null} title="All checks; some let the script take one step" onClick={() => { model.command("health", { name: "health", args: {} }); }}>Examine</button>
      <Progress model={model} session={session} />
      <small>{paused ? "Numerics, gradients, activations, determinism, throughput, ranks, memory and data." : LIVE.has(session.state) ? "At a pause." : "The script has ended."}</small>
      <div class="under"><Outcome model={model} place="health" room /></div>
    </div>
  );
}

function Row({ found }: { found: Found }) {
  const [open, setOpen] = useState(false);
  const [mark, words] = MARKS[found.verdict];
  const { rows = [], numbers = {} } = found;
  return (
    <>
      <tr>
        <td><span class={`verdict-of ${found.verdict}`}><span aria-hidden="true">{mark}</span> {words}</span></td>
        <td><strong>{found.check}</strong>{found.step !== undefined && <small>{`step ${format.count(found.step)}`}</small>}</td>
        <td class="text">{found.says}</td>
        <td class="text">{found.do ?? ""}</td>
        <td class="text figures">{Object.entries(numbers).map(([name, value]) => <span key={name} class="number">{`${name.replaceAll("_", " ")} ${plain(value)}`}</span>)}
          {rows.length > 0 && <button class="quiet" aria-expanded={open} onClick={() => { setOpen(!open); }}>{open ? "less" : format.counted(rows.length, "row")}</button>}</td>
      </tr>
      {open && <tr><td colSpan={5}><Parts rows={rows} /></td></tr>}
    </>
  );
}

function Parts({ rows }: { rows: Record<string, Value>[] }) {
  const [all, setAll] = useState(false);
  const names = Object.keys(rows[0] ?? {});
  return (
    <>
      <table aria-label="Of each part">
        <thead><tr>{names.map((name) => <th key={name} scope="col">{name.replaceAll("_", " ")}</th>)}</tr></thead>
        <tbody>{rows.slice(0, all ? undefined : ROWS).map((row, place) => <tr key={place}>{names.map((name) => <td key={name}>{plain(row[name] ?? null)}</td>)}</tr>)}</tbody>
      </table>
      {rows.length > ROWS && <button class="quiet" onClick={() => { setAll(!all); }}>{all ? "fewer" : `all ${format.count(rows.length)}`}</button>}
    </>
  );
}

function plain(value: Value): string {
  if (typeof value === "number") return Number.isInteger(value) ? format.count(value) : format.value(value);
  return value === null ? "–" : typeof value === "boolean" ? (value ? "yes" : "no") : value;
}
