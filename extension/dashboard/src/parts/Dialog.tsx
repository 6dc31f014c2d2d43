// A card over the page. The browser keeps the focus in it, hands it back afterwards, and closes it on Escape.
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";

interface DialogProps {
  label: string;
  kind: string;
  onClose: () => void;
  children: ComponentChildren;
}

export function Dialog({ label, kind, onClose, children }: DialogProps) {
  const place = useRef<HTMLDialogElement>(null);
  // Before the browser moves the focus to `autofocus`: it goes back to where it is now.
  useLayoutEffect(() => {
    const dialog = place.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);
  return (
    <dialog
      ref={place}
      class={`card ${kind}`}
      aria-label={label}
      onCancel={(event) => { event.preventDefault(); onClose(); }}
      onClick={(event) => { if (event.target === place.current) onClose(); }} // beside the card
      onKeyDown={(event) => { event.stopPropagation(); if (event.key === "Tab") turn(event, place.current); }}
    >
      <div class="inside">{children}</div>
    </dialog>
  );
}

/** From the last control to the first, and back: without this the browser's own controls come between. */
function turn(event: KeyboardEvent, dialog: HTMLDialogElement | null): void {
  const controls = [...(dialog?.querySelectorAll<HTMLElement>("button:not(:disabled), input:not([tabindex='-1']), select, [tabindex='0']") ?? [])];
  const [first, last] = [controls[0], controls[controls.length - 1]];
  const [from, to] = event.shiftKey ? [first, last] : [last, first];
  if (document.activeElement !== from) return;
  event.preventDefault();
  to?.focus();
}
