// The page's entry: takes the token, connects, draws.
import { render } from "preact";
import "uplot/dist/uPlot.min.css";
import "./style.css";
import { Model } from "./model";
import { App } from "./parts/App";
import { takeToken } from "./token";
import { BrowserHub } from "./websocket";

const root = document.getElementById("app");
if (root) {
  const token = takeToken(location, history, sessionStorage);
  const model = new Model(new BrowserHub(token, new URL("./", location.href)));
  render(<App model={model} />, root);
  model.start();
}
