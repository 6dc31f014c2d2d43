// All keys, on one card.
import { useEffect, useRef } from "preact/hooks";

const KEYS: [string, string][] = [
  ["space", "pause, or resume"],
  ["↑ ↓", "walk the samples (when the list has the focus)"],
  ["tab", "next control"],
  ["?", "this card"],
  ["esc", "close it"],
];

export function Keys({ onClose }: { onClose: () => void }) {
  const close = useRef<HTMLButtonElement>(null);
  useEffect(() => { close.current?.focus(); }, []);
  return (
    <div class="veil" onClick={onClose}>
      <section class="card keys" role="dialog" aria-modal="true" aria-label="Keys" onClick={(event) => { event.stopPropagation(); }}>
        <h2>Keys</h2>
        <dl>
          {KEYS.map(([key, meaning]) => (
            <div key={key}><dt><kbd>{key}</kbd></dt><dd>{meaning}</dd></div>
          ))}
        </dl>
        <button ref={close} onClick={onClose}>Close</button>
      </section>
    </div>
  );
}
