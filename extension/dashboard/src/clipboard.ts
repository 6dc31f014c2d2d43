// Text into the clipboard, where the page may: in a frame, or over plain HTTP, the browser lets it only by the old way.

/** False where the browser let nothing through. */
export async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return selected(text);
  }
}

/** Beside what has the focus: a dialog keeps the focus within itself. */
function selected(text: string): boolean {
  const beside = document.activeElement instanceof HTMLElement ? document.activeElement : document.body;
  const field = document.createElement("textarea");
  field.className = "hidden";
  field.value = text;
  (beside.parentElement ?? document.body).append(field);
  field.select();
  try {
    // There is no other way in these places.
    // eslint-disable-next-line @typescript-eslint/no-deprecated
    return document.execCommand("copy");
  } finally {
    field.remove();
    beside.focus();
  }
}
