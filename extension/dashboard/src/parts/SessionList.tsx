// All sessions, newest first: typed text narrows them, arrows walk them, Enter shows one. Or what they take on the disk.
import { useEffect, useRef, useState } from "preact/hooks";
import * as format from "../format";
import type { Model } from "../model";
import type { Session } from "../protocol";
import { Dialog } from "./Dialog";
import { Disk } from "./Disk";
import { Import, Trust } from "./Import";
import { Said } from "./Said";

/** `null` stands for whichever is the newest. */
type Choice = Session | null;

const NEWEST = "last";
const name = (choice: Choice | undefined) => choice?.id ?? NEWEST;

export function SessionList({ model, onClose }: { model: Model; onClose: () => void }) {
  const { storage } = model;
  const [text, setText] = useState("");
  const [disk, setDisk] = useState(false);
  useEffect(() => storage.watch(), [storage]);
  useEffect(() => () => { storage.dismiss(); }, [storage]);
  const choices: Choice[] = [...(text ? [] : [null]), ...matching(model.sessions, text)];
  // By name: a session that starts meanwhile moves the others down.
  const [chosen, setChosen] = useState(model.wanted === NEWEST ? NEWEST : name(model.session));
  const at = Math.max(0, choices.findIndex((choice) => name(choice) === chosen));
  const list = useRef<HTMLUListElement>(null);
  useEffect(() => { list.current?.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" }); }, [at]);

  const pick = (choice: Choice | undefined) => {
    if (choice === undefined) return;
    model.follow(name(choice));
    onClose();
  };
  const onKey = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (step) setChosen(name(choices[Math.max(0, Math.min(choices.length - 1, at + step))]));
    else if (event.key === "Enter") pick(choices[at]);
    else return;
    event.preventDefault();
  };
  return (
    <Dialog label="Sessions" kind="sessions" onClose={onClose}>
      <div class="head">
        <h2>Sessions <small>{format.count(model.sessions.length)}</small></h2>
        <span class="grow" />
        <Import model={model} onDone={onClose} />
        <button aria-pressed={disk} title="What each takes on the disk: keep, delete" onClick={() => { setDisk(!disk); }}>
          On the disk{storage.answer?.bytes ? <small>{` ${format.size(storage.answer.bytes)}`}</small> : null}
        </button>
        <button class="quiet" onClick={onClose}>Close <kbd>esc</kbd></button>
      </div>
      <Said storage={storage} />
      <Trust model={model} onDone={onClose} />
      <input
        type="text" role="combobox" aria-expanded="true" aria-controls="sessions" aria-activedescendant={`option-${name(choices[at])}`} aria-label="Find a session"
        placeholder="name, id, project or state" autofocus value={text} onKeyDown={onKey}
        onInput={(event) => { setText(event.currentTarget.value); setChosen(NEWEST); }}
      />
      {disk && <Disk model={model} sessions={matching(model.sessions, text)} />}
      {!disk && <ul ref={list} id="sessions" role="listbox" aria-label="Sessions">
        {choices.map((choice, number) => (
          <li
            key={name(choice)} id={`option-${name(choice)}`} role="option" aria-selected={number === at}
            onClick={() => { pick(choice); }}
          >
            {choice ? <Row session={choice} shown={choice.id === model.session?.id} bytes={storage.of(choice.id)?.bytes} /> : <Newest wanted={model.wanted === NEWEST} />}
          </li>
        ))}
      </ul>}
      {!choices.length && text && <p class="empty">{`No session matches “${text}”.`}</p>}
    </Dialog>
  );
}

function Newest({ wanted }: { wanted: boolean }) {
  return <span class="name"><b>The newest</b> <small>{wanted ? "shown now; follows each one that starts" : "follows each one that starts"}</small></span>;
}

function Row({ session, shown, bytes }: { session: Session; shown: boolean; bytes: number | undefined }) {
  const { id, name, project, state, step, loss, started, ended, since, pinned } = session;
  const over = ended ?? (["crashed", "lost"].includes(state) ? since : Date.now() / 1000);
  return (
    <>
      <span class={`dot ${state}`} aria-hidden="true" />
      <span class="name"><b>{name}</b> <small>{[project, id, pinned ? "pinned" : "", shown ? "shown now" : ""].filter(Boolean).join(" · ")}</small></span>
      <span class="state">{state}</span>
      <span class="figures">{`step ${format.count(step)}`}</span>
      <span class="figures">{`loss ${format.loss(loss)}`}</span>
      <span class="figures muted">{format.moment(started)}</span>
      <span class="figures muted">{format.duration(over - started)}</span>
      <span class="figures muted">{bytes === undefined ? "" : format.size(bytes)}</span>
    </>
  );
}

/** Newest start first; every word of the text stands somewhere in it. */
export function matching(sessions: readonly Session[], text: string): Session[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return sessions
    .filter(({ id, name, project, state }) => words.every((word) => [id, name, project, state].some((part) => part.toLowerCase().includes(word))))
    .sort((a, b) => b.started - a.started);
}
