// The screens for when there is nothing to show, and why.
import type { Connection } from "../hub";
import * as format from "../format";

/** How the page is opened with a login, where it stands. */
const opening = (notebook: boolean) => (notebook ? "%onthefly" : "onthefly dashboard");

interface WaitingProps {
  connection: Connection;
  hint: string;
  notebook: boolean;
  onSessions: () => void;
}

export function Waiting({ connection, hint, notebook, onSessions }: WaitingProps) {
  const what = notebook ? "Waiting for this notebook to train" : "Waiting for a script";
  return (
    <main class="screen">
      <h1>{connection === "open" ? what : hint ? "Not connected" : "Connecting to the hub…"}</h1>
      {hint && <p role="status">{hint}</p>}
      {notebook ? <p>A cell that imports torch opens a session, which appears here by itself.</p> : (
        <>
          <p>Start a training script under OnTheFly, and it appears here by itself:</p>
          <pre>python -m onthefly train.py</pre>
        </>
      )}
      {connection === "open" && <p><button onClick={onSessions}>Sessions and import… <kbd>s</kbd></button></p>}
      <p class="muted">No edited line, no account; nothing leaves this machine.</p>
    </main>
  );
}

export function Denied({ notebook }: { notebook: boolean }) {
  return (
    <main class="screen">
      <h1>This page is not logged in</h1>
      <p>The hub answers only to who holds its token, and this {notebook ? "frame" : "tab"} has none, or one of an earlier hub. Open it with:</p>
      <pre>{opening(notebook)}</pre>
      {!notebook && <p class="muted">Without a browser on that machine: <code>onthefly dashboard --url</code> prints an address that logs in.</p>}
    </main>
  );
}

/** The page was logged in, and a new hub has another token: what it shows stays, as of before. */
export function Restarted({ notebook }: { notebook: boolean }) {
  return (
    <p class="banner" role="alert">
      The hub was restarted, and this page is not logged in to the new one. What you see is from before; open it again
      with: {opening(notebook)}
    </p>
  );
}

export function Lost({ since, hint, live }: { since: number; hint: string; live: boolean }) {
  return (
    <p class="banner" role="alert">
      {`The hub does not answer since ${format.clock(since / 1000)}. What you see is from before; ${live ? "the script goes on, and " : ""}the page tries again by itself.${hint && ` ${hint}`}`}
    </p>
  );
}
