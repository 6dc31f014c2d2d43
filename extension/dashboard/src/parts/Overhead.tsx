// What watching costs, and how well it sees: in plain words, with the curve of the time that our hooks take.
import { useEffect } from "preact/hooks";
import * as format from "../format";
import { kind } from "../metrics";
import type { Histogram, Session } from "../protocol";
import { remedy } from "../remedies";
import { LOWER_BOUND } from "./Bar";
import { Chart } from "./Chart";
import { Facts, HubGauges } from "./System";
import type { TabProps } from "./Tabs";

const COST = "onthefly_us";
const height = () => 160;

export function Overhead({ model, session }: TabProps) {
  useEffect(() => {
    model.show("overhead", [COST]);
    const leave = model.machine.watch();
    return () => {
      model.show("overhead", []);
      leave();
    };
  }, [model]);
  const series = model.curve(COST);
  const { status, fault, cpu, rss } = model.machine;
  return (
    <div class="facts">
      <Facts title="In the script" full>
        <p>{inScript(session)}</p>
        {series.length > 0 && <Chart series={series} kind={kind(COST)} axis="step" height={height} />}
        <p class="remark">{`This is a lower bound. ${LOWER_BOUND}`}</p>
      </Facts>
      {model.samples.histogram && <Facts title="What was captured"><Captured histogram={model.samples.histogram} /></Facts>}
      <Facts title="Beside it, in the hub">
        {status && <HubGauges status={status} cpu={cpu} rss={rss} />}
        {fault ? <p class="empty">{fault}</p> : !status && <p class="empty">Asking the hub…</p>}
        {status && <p class="remark">The hub is a process of its own and serves all sessions; training never waits for it.</p>}
      </Facts>
    </div>
  );
}

function inScript({ onthefly_us, step_ms }: Session): string {
  if (onthefly_us === null) return "Nothing is measured yet: that begins with the first optimizer steps.";
  const time = `At least ${format.micro(onthefly_us)} of each step`;
  return step_ms ? `${time}, ${format.percent(onthefly_us / 1000 / step_ms)} of its ${format.figure(step_ms)} ms.` : `${time}.`;
}

const CERTIFICATES: Record<string, string> = {
  exact: "agree with the script's loss to the last bit that can be compared",
  approximate: "differ from the script's loss by more than rounding",
  none: "could not be compared with the script's loss",
};

const IDENTITIES: Record<string, string> = {
  index: "have their index in the dataset",
  stream: "come from a stream and have their place in it",
  key: "have a key of their dataset",
  none: "have no index",
};

function Captured({ histogram }: { histogram: Histogram }) {
  const { epoch, count, certificates, identities, lost } = histogram;
  const missed = lost.reduce((sum, { backwards }) => sum + backwards, 0);
  return (
    <>
      <p>{count ? `Epoch ${epoch}: the losses of ${format.counted(count, "sample")}.` : `Epoch ${epoch}: no losses of samples.`}</p>
      <ul>
        {Object.entries(certificates).map(([name, number]) => <li key={name}>{`${format.count(number)} ${CERTIFICATES[name] ?? name}`}</li>)}
        {Object.entries(identities).map(([name, number]) => <li key={name}>{`${format.count(number)} ${IDENTITIES[name] ?? name}`}</li>)}
        <li>{missed ? `${format.counted(missed, "backward call")} without losses of samples:` : "every backward call of it was read"}</li>
        {lost.map(({ reason, backwards }) => (
          <li key={reason} class="muted">{`${format.count(backwards)}: ${reason}. ${remedy(reason)}`}</li>
        ))}
      </ul>
    </>
  );
}
