// The page's entry: finds its way to the hub, connects, draws.
import { render } from "preact";
import "uplot/dist/uPlot.min.css";
import "./style.css";
import { Model } from "./model";
import { App } from "./parts/App";
import { EditorHub, type Webview } from "./postmessage";
import { followTheme } from "./theme";
import { login } from "./token";
import { BrowserHub } from "./websocket";
import type { Kept } from "./wire";

declare const acquireVsCodeApi: (() => Webview) | undefined;

/** In an editor: its way to the hub, and what it kept of the page over a reload. */
function inEditor(webview: Webview): Model {
  const hub = new EditorHub(webview, window);
  const model = new Model(hub);
  const kept = webview.getState() as Kept | undefined;
  if (kept) {
    model.wanted = kept.session;
    model.choose(kept.metric);
  }
  hub.onFollow = (session) => { model.follow(session); };
  let told = "";
  model.subscribe(() => {
    const { wanted, metric } = model;
    const name = wanted === model.session?.id ? model.session.name : "";
    const now = JSON.stringify([wanted, metric, name]);
    if (now === told) return;
    told = now;
    webview.setState({ session: wanted, metric });
    webview.postMessage({ type: "shows", session: wanted, name });
  });
  return model;
}

async function inBrowser(): Promise<Model> {
  const { token, kernel } = await login(location, history, () => sessionStorage);
  return new Model(new BrowserHub(token, new URL("./", location.href)), kernel);
}

const root = document.getElementById("app");
if (root) {
  followTheme(document.documentElement, document.body);
  const model = typeof acquireVsCodeApi === "function" ? inEditor(acquireVsCodeApi()) : await inBrowser();
  render(<App model={model} />, root);
  model.start();
}
