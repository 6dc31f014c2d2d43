// Samples into files that the hub makes: their indices, or whole rows.
import type { Hub } from "./hub";
import type { Selected, SelectionRequest } from "./protocol";

export const FORMATS = { json: "JSON", csv: "CSV", parquet: "Parquet", arrow: "Feather" } as const;

/** Make the file, and hand it to the person. Rejects where the hub refuses. */
export async function exportSelection(hub: Hub, session: string, wanted: SelectionRequest, name: string): Promise<void> {
  const { file = "" } = (await hub.ask("POST", `sessions/${session}/selection`, wanted)) as Selected;
  const bytes = Uint8Array.from(atob(file), (letter) => letter.charCodeAt(0));
  await hub.save(`${name}.${wanted.format === "arrow" ? "feather" : (wanted.format ?? "json")}`, new Blob([bytes]));
}
