// The machine and the processes: what runs where, what it uses, and the hub itself.
import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import * as format from "../format";
import { kind } from "../metrics";
import type { Model } from "../model";
import type { HubStatus, Rank, Session } from "../protocol";
import { newest, Spark } from "./Spark";
import type { TabProps } from "./Tabs";

const USED = ["cpu", "rss", "gpu_util", "gpu_mem"];

export function System({ model, session }: TabProps) {
  useEffect(() => {
    model.show("system", USED);
    const leave = model.machine.watch();
    return () => {
      model.show("system", []);
      leave();
    };
  }, [model]);
  return (
    <div class="facts">
      <Used model={model} session={session} />
      <Processes ranks={session.ranks} />
      <Script session={session} />
      <HubFacts model={model} />
    </div>
  );
}

/** A figure that changes, with its history. */
export function Gauge({ name, value, history }: { name: string; value: string; history: readonly number[] }) {
  return (
    <div class="gauge">
      <span class="name">{name} <b class="figures">{value}</b></span>
      <Spark values={history} />
    </div>
  );
}

export function Facts({ title, full = false, children }: { title: string; full?: boolean; children: ComponentChildren }) {
  return <section class={full ? "full" : ""}><h3>{title}</h3>{children}</section>;
}

function Used({ model, session }: { model: Model; session: Session }) {
  const there = USED.filter((metric) => model.curve(metric).length > 0);
  const over = session.ended !== null ? "was used by" : "is used by";
  return (
    <Facts title="Use">
      {there.length ? (
        <div class="gauges">
          {there.map((metric) => {
            const { label, unit } = kind(metric);
            const { value } = model.curve(metric);
            const now = newest(value.slice(-1));
            return <Gauge key={metric} name={label} value={unit === " MB" ? format.memory(now) : format.figure(now) + unit} history={value} />;
          })}
        </div>
      ) : <p class="empty">{`What ${over} the script is measured every few seconds on the hub's machine; there is nothing yet.`}</p>}
    </Facts>
  );
}

function Processes({ ranks }: { ranks: readonly Rank[] }) {
  if (!ranks.length) return null;
  return (
    <Facts title={ranks.length > 1 ? "Processes" : "Process"}>
      <div class="scroll">
        <table class="plain">
          <thead><tr>{["rank", "process", "pid", "machine", "state", "step"].map((head) => <th key={head} scope="col">{head}</th>)}</tr></thead>
          <tbody>
            {ranks.map((rank) => (
              <tr key={`${rank.rank} ${rank.pid}`}>
                <td>{rank.rank}</td>
                <td>{rank.name ? rank.name : "the script"}</td>
                <td>{rank.pid}</td>
                <td>{rank.node}</td>
                <td>{standing(rank)}</td>
                <td>{rank.trains === false ? "trains nothing" : format.count(rank.step)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Facts>
  );
}

const OVER: ReadonlySet<string> = new Set(["ended", "stopped", "crashed", "imported"]);

function standing({ state = "starting", connected }: Rank): string {
  return connected || OVER.has(state) ? state : `${state}, not connected`;
}

function Script({ session }: { session: Session }) {
  const versions = Object.entries(session.versions).map(([name, version]) => `${name} ${version}`).join(" · ");
  const rows: [string, string][] = [
    ["script", session.script],
    ["arguments", session.argv.join(" ")],
    ["folder", session.cwd],
    ["versions", versions],
    ["started", `${format.moment(session.started)}, session ${session.id}`],
  ];
  return <Facts title="Script"><Rows rows={rows} /></Facts>;
}

function Rows({ rows }: { rows: [string, string][] }) {
  return (
    <dl>
      {rows.filter(([, value]) => value).map(([name, value]) => <div key={name}><dt>{name}</dt><dd class="figures">{value}</dd></div>)}
    </dl>
  );
}

function HubFacts({ model }: { model: Model }) {
  const { status, fault, cpu, rss } = model.machine;
  return (
    <Facts title="Hub">
      {status && <HubGauges status={status} cpu={cpu} rss={rss} />}
      {status && (
        <Rows rows={[
          ["version", `${status.version} · Python ${status.python} · DuckDB ${status.duckdb}`],
          ["process", `${status.pid} on ${status.node}, port ${status.port}, since ${format.moment(status.started)}`],
          ["serves", `${format.counted(status.clients, "page")}, ${format.counted(status.agents, "process", "processes")}, ${format.counted(status.sessions, "session")}`],
          ["records", `${status.data_dir} (${format.memory(status.free)} free)`],
        ]} />
      )}
      {fault ? <p class="empty">{fault}</p> : !status && <p class="empty">Asking the hub…</p>}
    </Facts>
  );
}

export function HubGauges({ status, cpu, rss }: { status: HubStatus; cpu: readonly number[]; rss: readonly number[] }) {
  return (
    <div class="gauges">
      <Gauge name="hub, of one core" value={`${format.figure(status.cpu)} %`} history={cpu} />
      <Gauge name="hub, memory" value={format.memory(status.rss)} history={rss} />
    </div>
  );
}
