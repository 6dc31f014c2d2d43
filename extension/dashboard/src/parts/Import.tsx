// A bundle of the person's becomes a session. One with parts that could run code is taken in only after a yes.
import { useRef } from "preact/hooks";
import type { Model } from "../model";

interface ImportProps {
  model: Model;
  /** It was taken in, and is shown. */
  onDone: () => void;
}

export function Import({ model, onDone }: ImportProps) {
  const { storage } = model;
  const field = useRef<HTMLInputElement>(null);
  const take = async (file: Blob, trust = false) => { if (await model.import(file, trust)) onDone(); };
  return (
    <>
      <button disabled={model.connection !== "open" || storage.busy} title="Open a session that was exported to a file (.otf)" onClick={() => { field.current?.click(); }}>Import…</button>
      <input
        ref={field} type="file" class="hidden" accept=".otf" tabIndex={-1} aria-label="A bundle to import"
        onChange={({ currentTarget }) => {
          const file = currentTarget.files?.[0];
          if (file) void take(file);
          currentTarget.value = ""; // the same one can be chosen again
        }}
      />
    </>
  );
}

/** The question of trust, where it stands. */
export function Trust({ model, onDone }: ImportProps) {
  const { doubted } = model.storage;
  if (!doubted) return null;
  const take = async () => { if (await model.import(doubted, true)) onDone(); };
  return (
    <div class="field" role="group" aria-label="Trust the bundle">
      <span>Do you trust who made it? Nothing is run by the import; what loads these parts later runs what is in them.</span>
      <button class="warning" onClick={() => void take()}>I trust it: import</button>
      <button onClick={() => { model.storage.dismiss(); }}>No</button>
    </div>
  );
}
