// The whole page: one bar, the curve, the samples that hurt; or the screen that says why there is none of it.
import { useEffect, useReducer, useState } from "preact/hooks";
import type { Model } from "../model";
import { Bar, LIVE } from "./Bar";
import { HistogramCard } from "./Histogram";
import { Keys } from "./Keys";
import { LossCard } from "./LossCard";
import { Notices } from "./Notices";
import { Denied, Lost, Restarted, Waiting } from "./Screens";
import { Tiles } from "./Tiles";
import { Worst } from "./Worst";

/** Keys that act on the whole page; none while the user types or a control has the focus that uses the key itself. */
function onKey(event: KeyboardEvent, model: Model, help: (shown: boolean | ((was: boolean) => boolean)) => void): void {
  const target = event.target as HTMLElement | null;
  if (event.ctrlKey || event.metaKey || event.altKey || target?.closest("input, select, textarea")) return;
  if (event.key === " " && !target?.closest("button")) {
    event.preventDefault();
    model.toggle();
  } else if (event.key === "?") help((was) => !was);
  else if (event.key === "Escape") help(false);
}

export function App({ model }: { model: Model }) {
  const [, redraw] = useReducer((count: number) => count + 1, 0);
  const [help, setHelp] = useState(false);
  useEffect(() => {
    redraw(0); // what changed between the first drawing and this subscription
    const unsubscribe = model.subscribe(() => { redraw(0); });
    return () => { unsubscribe(); };
  }, [model]);
  useEffect(() => {
    const listener = (event: KeyboardEvent) => {
      onKey(event, model, setHelp);
    };
    document.addEventListener("keydown", listener);
    return () => {
      document.removeEventListener("keydown", listener);
    };
  }, [model]);

  const { session } = model;
  if (model.connection === "denied" && !session) return <Denied />;
  return (
    <>
      <Bar model={model} onHelp={() => { setHelp(true); }} />
      {model.connection === "lost" && <Lost since={model.lostAt} live={session !== null && LIVE.has(session.state)} />}
      {model.connection === "denied" && <Restarted />}
      {help && <Keys onClose={() => { setHelp(false); }} />}
      {session ? (
        <main class={model.connection === "open" ? "page" : "page stale"}>
          <div class="column wide">
            <LossCard model={model} />
            <Tiles model={model} />
            <Notices session={session} histogram={model.histogram} />
          </div>
          <div class="column">
            <HistogramCard histogram={model.histogram} session={session} />
            <Worst samples={model.worst} histogram={model.histogram} />
          </div>
        </main>
      ) : (
        <Waiting connection={model.connection} />
      )}
    </>
  );
}
