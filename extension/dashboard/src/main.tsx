// The page's entry: takes the token, connects, draws.
import { render } from "preact";
import "uplot/dist/uPlot.min.css";
import "./style.css";
import { Model } from "./model";
import { App } from "./parts/App";
import { login } from "./token";
import { BrowserHub } from "./websocket";

const root = document.getElementById("app");
if (root) {
  const { token, kernel } = await login(location, history, () => sessionStorage);
  const model = new Model(new BrowserHub(token, new URL("./", location.href)), kernel);
  render(<App model={model} />, root);
  model.start();
}
