// Everything that one click away is near enough: a tab is a row here and a file of its own.
import type { ComponentType } from "preact";
import { useState } from "preact/hooks";
import { controlled } from "../controls";
import * as format from "../format";
import type { Model } from "../model";
import type { Session } from "../protocol";
import { Checkpoints } from "./checkpoints/Checkpoints";
import { Control } from "./control/Control";
import { DataMap } from "./insight/DataMap";
import { Health } from "./insight/Health";
import { Review } from "./insight/Review";
import { Samples } from "./insight/Samples";
import { Test } from "./insight/Test";
import { Journal } from "./Journal";
import { Logs } from "./Logs";
import { Overhead } from "./Overhead";
import { Runs } from "./runs/Runs";
import { System } from "./System";
import { Trial } from "./trial/Trial";
import { Watchdogs } from "./watch/Watchdogs";

export interface TabProps {
  model: Model;
  session: Session;
}

interface Tab {
  name: string;
  part: ComponentType<TabProps>;
  /** There is something to show. */
  exists: (session: Session, model: Model) => boolean;
  /** How many of what it lists are worth a look. */
  count?: (session: Session, model: Model) => number;
}

const TABS: Tab[] = [
  { name: "Logs", part: Logs, exists: () => true },
  { name: "Samples", part: Samples, exists: ({ samples }) => samples > 0 },
  { name: "Review", part: Review, exists: ({ samples }) => samples > 0 },
  { name: "Test", part: Test, exists: ({ controls }) => controls !== undefined, count: (_, { evaluations }) => evaluations.rows.length },
  { name: "Map", part: DataMap, exists: ({ samples }) => samples > 0 },
  { name: "Health", part: Health, exists: ({ controls }) => controls !== undefined, count: (_, { health }) => health.bad },
  { name: "Control", part: Control, exists: ({ controls }) => controls !== undefined },
  { name: "Checkpoints", part: Checkpoints, exists: ({ controls }) => controls !== undefined, count: (session) => controlled(session).checkpoints.length },
  { name: "Trial", part: Trial, exists: ({ controls }) => controls !== undefined },
  { name: "Watchdogs", part: Watchdogs, exists: ({ controls }) => Boolean(controls?.watches?.length ?? controls?.findings?.length), count: (session) => controlled(session).findings.length },
  { name: "Runs", part: Runs, exists: ({ controls, branches }) => controls !== undefined || Boolean(branches?.length), count: ({ branches }) => (branches?.length ? branches.length + 1 : 0) },
  { name: "Journal", part: Journal, exists: ({ controls }, { journal }) => controls !== undefined || journal.entries.length > 0, count: (_, { journal }) => journal.entries.length },
  { name: "System", part: System, exists: () => true },
  { name: "Overhead", part: Overhead, exists: ({ backwards, onthefly_us }) => backwards > 0 || onthefly_us !== null },
];

export function Tabs({ model, session }: TabProps) {
  const [, redraw] = useState("");
  const chosen = model.tab;
  const open = (name: string) => { model.open(name); redraw(name); };
  const there = TABS.filter(({ exists }) => exists(session, model));
  const tab = there.find(({ name }) => name === chosen) ?? there[0];
  if (!tab) return null;
  const walk = (event: KeyboardEvent & { currentTarget: HTMLElement }) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = (there.indexOf(tab) + step + there.length) % there.length;
    open(there[next]?.name ?? chosen);
    event.currentTarget.querySelectorAll("button")[next]?.focus();
  };
  const Part = tab.part;
  return (
    <section class="card" aria-label="More">
      <div class="tabs" role="tablist" onKeyDown={walk}>
        {there.map(({ name, count }) => (
          <button
            key={name} id={`tab-${name}`} role="tab" aria-selected={tab.name === name} aria-controls="tab" tabIndex={tab.name === name ? 0 : -1}
            onClick={() => { open(name); }}
          >
            {name}<Count count={count?.(session, model) ?? 0} />
          </button>
        ))}
      </div>
      <div id="tab" role="tabpanel" aria-labelledby={`tab-${tab.name}`}>
        <Part key={session.id} model={model} session={session} />
      </div>
    </section>
  );
}

function Count({ count }: { count: number }) {
  return count ? <small class="figures"> {format.count(count)}</small> : null;
}
