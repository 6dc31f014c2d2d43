// All keys, on one card.
import { Dialog } from "./Dialog";

const KEYS: [string, string][] = [
  ["space", "pause, or resume"],
  [".", "one step, then hold again"],
  ["c", "checkpoint: keep the state of this moment"],
  ["s", "the list of sessions"],
  ["↑ ↓", "walk the samples, or the sessions (when the list has the focus)"],
  ["x", "choose the sample (in the list of samples; with shift and arrows, or a shift-click, a range)"],
  ["← ↑ → ↓", "walk the runs (when their graph has the focus); enter or x chooses one more, esc none"],
  ["w f u", "in the review of labels: wrong, fine, unsure; 0 takes it back, ← → walk"],
  ["enter esc", "in a field: apply what was typed, or put back what was there"],
  ["← →", "walk the tabs (when one has the focus)"],
  ["tab", "next control"],
  ["?", "this card"],
  ["esc", "close a card or a menu"],
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
