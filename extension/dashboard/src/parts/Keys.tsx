// All keys, on one card.
import { Dialog } from "./Dialog";

const KEYS: [string, string][] = [
  ["space", "pause, or resume"],
  ["s", "the list of sessions"],
  ["↑ ↓", "walk the samples, or the sessions (when the list has the focus)"],
  ["← →", "walk the tabs (when one has the focus)"],
  ["tab", "next control"],
  ["?", "this card"],
  ["esc", "close a card"],
];

export function Keys({ onClose }: { onClose: () => void }) {
  return (
    <Dialog label="Keys" kind="keys" onClose={onClose}>
      <h2>Keys</h2>
      <dl>
        {KEYS.map(([key, meaning]) => (
          <div key={key}><dt><kbd>{key}</kbd></dt><dd>{meaning}</dd></div>
        ))}
      </dl>
      <button onClick={onClose}>Close</button>
    </Dialog>
  );
}
