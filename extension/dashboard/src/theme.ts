// Light or dark: in the editor as its theme is, elsewhere as the system is. The style sheet goes by `data-theme` on the root.

const DARK = "(prefers-color-scheme: dark)";

/** Keep `data-theme` right from now on. */
export function followTheme(root: HTMLElement, body: HTMLElement): void {
  const apply = () => { root.dataset["theme"] = theme(body); };
  apply();
  matchMedia(DARK).addEventListener("change", apply);
  new MutationObserver(apply).observe(body, { attributes: true, attributeFilter: ["class", "data-vscode-theme-id"] });
}

/** With the editor's own name for it, if there is one: a canvas must be drawn again for each. */
function theme({ classList, dataset }: HTMLElement): string {
  const named = dataset["vscodeThemeId"] ?? "";
  if (classList.contains("vscode-high-contrast-light")) return `light contrast ${named}`;
  if (classList.contains("vscode-high-contrast")) return `dark contrast ${named}`;
  if (classList.contains("vscode-dark")) return `dark ${named}`;
  if (classList.contains("vscode-light")) return `light ${named}`;
  return matchMedia(DARK).matches ? "dark" : "light";
}

/** Call `changed` whenever the theme is another. Returns what ends it. */
export function onTheme(root: HTMLElement, changed: (theme: string) => void): () => void {
  const observer = new MutationObserver(() => { changed(root.dataset["theme"] ?? ""); });
  observer.observe(root, { attributes: true, attributeFilter: ["data-theme"] });
  return () => { observer.disconnect(); };
}
