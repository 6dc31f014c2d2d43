// What became of the last thing that was done to sessions as files.
import type { StorageStore } from "../storage";

export function Said({ storage }: { storage: StorageStore }) {
  const { said, wrong } = storage;
  if (wrong) {
    return (
      <p class="said wrong" role="alert">
        <span>{wrong}</span>
        <button type="button" class="quiet" aria-label="Dismiss" title="Dismiss" onClick={() => { storage.dismiss(); }}>×</button>
      </p>
    );
  }
  return <p class="said" role="status">{said}</p>;
}
