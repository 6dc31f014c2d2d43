// The screens for when there is nothing to show, and why.
import type { Connection } from "../hub";
import * as format from "../format";

/** How the page is opened with a login, where it stands. */
const opening = (notebook: boolean) => (notebook ? "%onthefly" : "onthefly dashboard");

export function Waiting({ connection, notebook }: { connection: Connection; notebook: boolean }) {
  return (
    <main class="screen">
      <h1>{connection !== "open" ? "Connecting to the hub…" : notebook ? "Waiting for this notebook to train" : "Waiting for a script"}</h1>
      {notebook ? <p>A cell that imports torch opens a session, which appears here by itself.</p> : (
        <>
          <p>Start a training script under OnTheFly, and it appears here by itself:</p>
          <pre>python -m onthefly train.py</pre>
        </>
      )}
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

export function Lost({ since, live }: { since: number; live: boolean }) {
  return (
    <p class="banner" role="alert">
      {`The hub does not answer since ${format.clock(since / 1000)}. What you see is from before; ${live ? "the script goes on, and " : ""}the page tries again by itself.`}
    </p>
  );
}
