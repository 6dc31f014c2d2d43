// Everything that one click away is near enough: a tab is a row here and a file of its own.
import type { ComponentType } from "preact";
import { useState } from "preact/hooks";
import type { Model } from "../model";
import type { Session } from "../protocol";
import { Logs } from "./Logs";
import { Overhead } from "./Overhead";
import { System } from "./System";

export interface TabProps {
  model: Model;
  session: Session;
}

interface Tab {
  name: string;
  part: ComponentType<TabProps>;
  /** There is something to show. */
  exists: (session: Session) => boolean;
}

const TABS: Tab[] = [
  { name: "Logs", part: Logs, exists: () => true },
  { name: "System", part: System, exists: () => true },
  { name: "Overhead", part: Overhead, exists: ({ backwards, onthefly_us }) => backwards > 0 || onthefly_us !== null },
];

export function Tabs({ model, session }: TabProps) {
  const [chosen, setChosen] = useState("Logs");
  const there = TABS.filter(({ exists }) => exists(session));
  const tab = there.find(({ name }) => name === chosen) ?? there[0];
  if (!tab) return null;
  const walk = (event: KeyboardEvent & { currentTarget: HTMLElement }) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = (there.indexOf(tab) + step + there.length) % there.length;
    setChosen(there[next]?.name ?? chosen);
    event.currentTarget.querySelectorAll("button")[next]?.focus();
  };
  const Part = tab.part;
  return (
    <section class="card" aria-label="More">
      <div class="tabs" role="tablist" onKeyDown={walk}>
        {there.map(({ name }) => (
          <button
            key={name} id={`tab-${name}`} role="tab" aria-selected={tab.name === name} aria-controls="tab" tabIndex={tab.name === name ? 0 : -1}
            onClick={() => { setChosen(name); }}
          >
            {name}
          </button>
        ))}
      </div>
      <div id="tab" role="tabpanel" aria-labelledby={`tab-${tab.name}`}>
        <Part key={session.id} model={model} session={session} />
      </div>
    </section>
  );
}
