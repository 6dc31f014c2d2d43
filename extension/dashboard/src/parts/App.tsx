// The whole page: one bar, the curve, the samples that hurt; or the screen that says why there is none of it.
import { useEffect, useReducer, useState } from "preact/hooks";
import { LIVE } from "../controls";
import type { Model } from "../model";
import type { Session } from "../protocol";
import { Bar } from "./Bar";
import { ChartCard } from "./ChartCard";
import { HistogramCard } from "./Histogram";
import { Keys } from "./Keys";
import { Notices } from "./Notices";
import { RunDialogs } from "./runs/Dialogs";
import { Denied, Lost, Restarted, Waiting } from "./Screens";
import { SessionList } from "./SessionList";
import { Tabs } from "./Tabs";
import { Tiles } from "./Tiles";
import { Worst } from "./Worst";

/** The card that lies over the page. */
type Over = "" | "keys" | "sessions";

/** Keys that act on the whole page; none while the user types or a control has the focus that uses the key itself. */
function onKey(event: KeyboardEvent, model: Model, show: (over: Over) => void): void {
  const target = event.target as HTMLElement | null;
  if (event.ctrlKey || event.metaKey || event.altKey || target?.closest("input, select, textarea, dialog, [role=dialog]")) return;
  if (event.key === " " && !target?.closest("button")) {
    event.preventDefault();
    model.toggle();
  } else if (event.key === ".") model.step();
  else if (event.key === "c") model.keep();
  else if (event.key === "?") show("keys");
  else if (event.key === "s") {
    event.preventDefault(); // it would be typed into the field that gets the focus
    show("sessions");
  }
}

export function App({ model }: { model: Model }) {
  const [over, setOver] = useState<Over>("");
  useRedraw(model);
  useEffect(() => {
    const listener = (event: KeyboardEvent) => {
      onKey(event, model, setOver);
    };
    document.addEventListener("keydown", listener);
    return () => {
      document.removeEventListener("keydown", listener);
    };
  }, [model]);

  const { session } = model;
  if (model.connection === "denied" && !session) return <Denied notebook={model.kernel !== null} />;
  const close = () => { setOver(""); };
  return (
    <>
      <Bar model={model} onHelp={() => { setOver("keys"); }} onSessions={() => { setOver("sessions"); }} />
      {model.connection === "lost" && <Lost since={model.lostAt} hint={model.hint} live={session !== null && LIVE.has(session.state)} />}
      {model.connection === "denied" && <Restarted notebook={model.kernel !== null} />}
      {over === "keys" && <Keys onClose={close} />}
      {session && <RunDialogs model={model} session={session} />}
      {over === "sessions" && <SessionList model={model} onClose={close} />}
      {session ? <Page model={model} session={model.viewed ?? session} /> : <Waiting connection={model.connection} hint={model.hint} notebook={model.kernel !== null} onSessions={() => { setOver("sessions"); }} />}
    </>
  );
}

function Page({ model, session }: { model: Model; session: Session }) {
  useEffect(() => { document.title = `${session.state} · ${session.name} – OnTheFly`; }, [session.state, session.name]);
  return (
    <main class={model.connection === "open" ? "page" : "page stale"}>
      <div class="column wide">
        <ChartCard model={model} session={session} />
        <Tiles model={model} />
        <Tabs model={model} session={session} />
      </div>
      <div class="column">
        <HistogramCard model={model} session={session} />
        <Worst model={model} session={session} />
        <Notices session={session} histogram={model.samples.histogram} />
      </div>
    </main>
  );
}

/** Draw again when the model changed, once a frame at most: messages come in bursts. */
function useRedraw(model: Model): void {
  const [, redraw] = useReducer((count: number) => count + 1, 0);
  useEffect(() => {
    let frame = 0;
    const unsubscribe = model.subscribe(() => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        redraw(0);
      });
    });
    redraw(0); // what changed between the first drawing and this subscription
    return () => {
      unsubscribe();
      cancelAnimationFrame(frame);
    };
  }, [model]);
}
