// Files that the page makes: a chart's values as CSV, the chart as it stands as PNG.
import type { Series } from "./protocol";

/** The most that the hub gives in one answer. */
export const CSV_POINTS = 20_000;

export function download(name: string, content: Blob): void {
  const address = URL.createObjectURL(content);
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  // The browser has taken hold of the content once the click was dealt with.
  setTimeout(() => { URL.revokeObjectURL(address); }, 10_000);
}

/** `lr/1` is no name for a file. */
export function fileName(session: string, metric: string, ending: string): string {
  return `${session}-${metric.replace(/[^\w.-]+/g, "-")}.${ending}`;
}

export function csv(series: Series): string {
  const rows = series.step.map((step, place) => [
    step, series.epoch[place], new Date((series.time[place] ?? 0) * 1000).toISOString(), series.value[place],
    series.low[place], series.high[place],
  ].join(","));
  return ["step,epoch,time,value,low,high", ...rows, ""].join("\r\n");
}

export interface Words {
  title: string;
  detail: string;
  /** Of the x axis. */
  axis: string;
}

const [HEAD, FOOT, EDGE] = [52, 26, 16];

/** A chart's canvas with its title above and the name of its axis below, in the page's colours. */
export function picture(chart: HTMLCanvasElement, words: Words): HTMLCanvasElement {
  const ratio = chart.width / (chart.clientWidth || chart.width);
  const style = getComputedStyle(chart);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  const canvas = document.createElement("canvas");
  canvas.width = chart.width + 2 * EDGE * ratio;
  canvas.height = chart.height + (HEAD + FOOT) * ratio;
  const context = canvas.getContext("2d");
  if (!context) return canvas;
  context.fillStyle = colour("--card");
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(chart, EDGE * ratio, HEAD * ratio);
  context.scale(ratio, ratio);
  const text = (content: string, x: number, y: number, size: string, name: string) => {
    context.font = `${size} ${style.fontFamily}`;
    context.fillStyle = colour(name);
    context.fillText(content, x, y);
  };
  text(words.title, EDGE, 24, "650 15px", "--text");
  text(words.detail, EDGE, 42, "12px", "--muted");
  context.textAlign = "center";
  text(words.axis, canvas.width / ratio / 2, canvas.height / ratio - 10, "12px", "--muted");
  return canvas;
}
