// To end the script is asked once, with how.
import type { Model } from "../model";
import { Menu } from "./Menu";

export function StopMenu({ model }: { model: Model }) {
  const stop = (now: boolean, close: () => void) => {
    close();
    model.command("bar/stop", { name: "stop", args: now ? { now } : {} });
  };
  return (
    <Menu label="Stop the script" title="End the script: asks once" button="Stop…" disabled={model.connection !== "open" || model.commands.pending("bar/stop") !== null}>
      {(close) => (
        <div class="fields">
          <div class="field">
            <button class="warning" onClick={() => { stop(false, close); }}>Stop after this step</button>
            <small>its own finally and atexit run</small>
          </div>
          <div class="field">
            <button onClick={() => { stop(true, close); }}>End at once</button>
            <small>by SIGTERM, and SIGKILL five seconds later</small>
          </div>
          <div class="field"><button data-first onClick={close}>Keep it running</button></div>
        </div>
      )}
    </Menu>
  );
}
