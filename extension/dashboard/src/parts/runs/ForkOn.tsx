// From a selection to the dialog of a fork on it, wherever samples are selected.
import { useState } from "preact/hooks";
import { LIVE } from "../../controls";
import type { Request } from "../../explore";
import type { Model } from "../../model";

interface ForkOnProps {
  model: Model;
  /** What is selected, or how to say it; null: nothing. */
  request: Request | (() => Request) | null;
}

export function ForkOn({ model, request }: ForkOnProps) {
  const { runs, viewed: session } = model;
  const [wrong, setWrong] = useState("");
  if (!session?.controls || !LIVE.has(session.state)) return null;
  const ask = async () => { if (request) setWrong(await runs.forkOn(typeof request === "function" ? request() : request, session.run)); };
  return (
    <>
      <button type="button" disabled={!request} title="A run of its own that is trained on these" onClick={() => void ask()}>Fork on these</button>
      {wrong && request && <small class="wrong-of" role="alert">{wrong}</small>}
    </>
  );
}
