// What the script wrote, as on a terminal; follows the end unless the reader scrolled up.
import type { VNode } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import * as format from "../format";
import type { Line } from "../lines";
import type { TabProps } from "./Tabs";

const TYPING_MS = 250;
/** Of one line: more is no reading matter, and slow to lay out. */
const MAX_LENGTH = 4000;
/** So near to its end (px) the list counts as being there. */
const NEAR = 8;

export function Logs({ model, session }: TabProps) {
  const { logs } = model;
  const list = useRef<HTMLDivElement>(null);
  const [text, setText] = useState(logs.search);
  useEffect(() => {
    logs.look(true);
    return () => { logs.look(false); };
  }, [logs]);
  useEffect(() => {
    const timer = setTimeout(() => { logs.find(text); }, TYPING_MS);
    return () => { clearTimeout(timer); };
  }, [logs, text]);
  useStay(list, logs.shown, logs.following);

  const onScroll = () => {
    const element = list.current;
    if (element) logs.stay(element.scrollHeight - element.scrollTop - element.clientHeight < NEAR);
  };
  const ranks = useMemo(() => new Set(logs.shown.map(({ rank }) => rank)).size > 1, [logs.shown]);
  const written = useWritten(logs.shown, ranks, logs.search);
  return (
    <div class="logs">
      <div class="head">
        <input type="search" aria-label="Find in the log" placeholder="find" value={text} onInput={(event) => { setText(event.currentTarget.value); }} />
        {logs.fault && <small class="warn">{logs.fault}</small>}
        <span class="grow" />
        {logs.earlier && <button class="quiet" onClick={() => void logs.older()}>earlier</button>}
        {!logs.following && <button onClick={() => { logs.stay(true); }}>{logs.missed ? `follow · ${format.count(logs.missed)} new` : "follow"}</button>}
      </div>
      <div ref={list} class="written" tabIndex={0} role="log" aria-live="off" aria-label="What the script wrote" onScroll={onScroll}>{written}</div>
      {!logs.shown.length && <p class="empty">{nothing(session.logs ?? 0, logs.search, logs.loaded, logs.fault)}</p>}
    </div>
  );
}

function nothing(count: number, search: string, loaded: boolean, fault: string): string {
  if (fault) return "The log is not here.";
  if (count === 0) return "The script has written nothing yet.";
  if (!loaded) return "Reading the log…";
  return search ? `No line contains “${search}”.` : "The script has written no line yet.";
}

/** Lines as elements; those of before are handed on as they are, and cost nothing. */
function useWritten(shown: Line[], ranks: boolean, found: string): VNode[] {
  const known = useMemo(() => new WeakMap<Line, VNode>(), [ranks, found]);
  return useMemo(() => shown.map((line) => {
    const element = known.get(line) ?? <Written key={line.key} line={line} ranks={ranks} found={found} />;
    known.set(line, element);
    return element;
  }), [known, shown]);
}

/** At the end while it is followed; else the same line stays where it was when older ones come above it. */
function useStay(list: { current: HTMLDivElement | null }, shown: Line[], following: boolean): void {
  const before = useRef({ first: "", height: 0 });
  useLayoutEffect(() => {
    const element = list.current;
    if (!element) return;
    const first = shown[0]?.key ?? "";
    if (following) element.scrollTop = element.scrollHeight;
    else if (first !== before.current.first) element.scrollTop += element.scrollHeight - before.current.height;
    before.current = { first, height: element.scrollHeight };
  }, [list, shown, following]);
}

function Written({ line, ranks, found }: { line: Line; ranks: boolean; found: string }) {
  const over = line.text.length - MAX_LENGTH;
  return (
    <p class={line.stream}>
      <time>{format.clock(line.time)}</time>
      {ranks && <b>{`rank ${line.rank}`}</b>}
      <span>
        {line.stream === "stderr" && <i class="hidden">stderr: </i>}
        {marked(over > 0 ? line.text.slice(0, MAX_LENGTH) : line.text, found)}
        {over > 0 && <small>{` … ${format.count(over)} more characters`}</small>}
      </span>
    </p>
  );
}

/** Every place of the text that was looked for. */
function marked(text: string, found: string) {
  if (!found) return text;
  const [lower, wanted] = [text.toLowerCase(), found.toLowerCase()];
  const parts = [];
  let from = 0;
  for (let at = lower.indexOf(wanted); at >= 0; at = lower.indexOf(wanted, from)) {
    parts.push(text.slice(from, at), <mark key={at}>{text.slice(at, at + wanted.length)}</mark>);
    from = at + wanted.length;
  }
  return [...parts, text.slice(from)];
}
