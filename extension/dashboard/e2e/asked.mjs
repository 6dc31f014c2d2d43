// Made-up answers about single samples, tests and health, for made.mjs: what a hub says of a session where all of it exists.
import { crc32, deflateSync } from "node:zlib";

const COUNT = 1400;
const CLASSES = 10;
const noise = (at, seed) => { const value = Math.sin(at * 12.9898 + seed * 78.233) * 43758.5453; return value - Math.floor(value); };
const range = (count, make) => Array.from({ length: count }, (_, at) => make(at));

/** A grey picture with a blot in it. */
function png(seed, side = 28) {
  const lines = Buffer.alloc(side * (side + 1));
  for (let y = 0; y < side; y++) for (let x = 0; x < side; x++) {
    const [dx, dy] = [x - side / 2 - 5 * Math.sin(seed + y / 4), y - side / 2];
    lines[y * (side + 1) + 1 + x] = Math.max(0, Math.min(255, 260 - 9 * (dx * dx + dy * dy * 0.25)));
  }
  const chunk = (name, data) => {
    const body = Buffer.concat([Buffer.from(name), data]);
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    sum.writeUInt32BE(crc32(body) >>> 0);
    return Buffer.concat([length, body, sum]);
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(side, 0);
  head.writeUInt32BE(side, 4);
  head.set([8, 0, 0, 0, 0], 8);
  return Buffer.concat([Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]), chunk("IHDR", head), chunk("IDAT", deflateSync(lines)), chunk("IEND", Buffer.alloc(0))]).toString("base64");
}

const wave = range(200, (at) => Math.abs(Math.sin(at / 9)) * Math.exp(-at / 90));
const KINDS = [
  (sample) => ({ name: "0", kind: "image", says: "1x28x28 float32, 0 to 1", png: png(sample), width: 28, height: 28 }),
  () => ({ name: "wave", kind: "audio", says: "16000 float32, -1 to 1", low: wave.map((value) => -value), high: wave }),
  () => ({ name: "text", kind: "text", says: "61 letters", text: "A review whose writer liked the film, and the second half most." }),
  () => ({ name: "row", kind: "row", says: "4 values", row: [["sepal_length", "5.1"], ["sepal_width", "3.5"], ["petal_length", "1.4"], ["petal_width", "0.2"]] }),
];

/** What the script says to `show`. */
export const shown = ({ samples, loader = "loader0" }) => ({
  loader, samples: samples.map((sample) => (sample % 13 === 12 ? { sample, parts: [], target: null, reason: "the data set raises OSError: image file is truncated" } : { sample, parts: [KINDS[sample % 9 < 6 ? 0 : (sample % 9) - 5](sample)], target: String(sample % CLASSES), reason: "" })),
});

const row = (at) => ({
  run: "baseline", phase: "train", evaluation: null, epoch: 6, step: 2990 - at, backward: 2990 - at, loader: "loader0", position: at % 32, sample: 1183 - 7 * at, key: null, loss: 6.41 - 0.05 * at, valid: 1, certificate: "exact",
  identity: "index", confidence: 0.02, margin: -3.1, target: at % CLASSES, predicted: (at + (at % 3)) % CLASSES, tags: at % 5 ? null : "label:wrong",
});
const suspect = (at) => ({
  place: at + 1, loader: "loader0", sample: 1183 - 7 * at, key: null, is_label_issue: at < 40, label_quality: 0.01 + at / 900, given_label: at % CLASSES, predicted_label: (at + 3) % CLASSES, verdict: [null, "wrong", "fine", null][at % 4], margin: -6.2 + at / 20,
  variability: 0.04, forgetting: 0, learned: null, count: 7, loss_mean: 5.4, loss_last: 6.1, evidence: `class ${(at + 3) % CLASSES} led by 6.20 on average; its class was given 1 %; never right in 7 times`,
});
const centre = (label) => [7 * Math.cos(label * 0.63), 5 * Math.sin(label * 0.63)];
const labels = range(COUNT, (at) => at % CLASSES);
const map = {
  session: "k3f9q2ma", run: "baseline", evaluation: "scan_1", method: "pca", loader: "loader0", total: COUNT, explained: 0.41, evaluations: ["scan_1"], sample: range(COUNT, (at) => at), key: range(COUNT, () => null),
  x: labels.map((label, at) => centre(label)[0] + 2 * (noise(at, 1) + noise(at, 2) - 1)), y: labels.map((label, at) => centre(label)[1] + 2 * (noise(at, 3) + noise(at, 4) - 1)), loss: range(COUNT, (at) => -Math.log(noise(at, 5)) * (1 + labels[at] / 3)),
  target: labels, predicted: labels, cluster: labels.map((label) => 9 - label), clusters: range(CLASSES, (number) => ({ number, count: COUNT / CLASSES, loss: 4 - number / 3 })),
};
const matrix = (wrong) => range(CLASSES, (label) => range(CLASSES, (said) => (said === label ? 36 - 2 * wrong : noise(label * 10 + said, 6) > 0.7 ? wrong : 0)));
const evaluation = (number, step, wrong, changes = {}) => {
  const counts = matrix(wrong);
  const right = counts.reduce((sum, line, label) => sum + line[label], 0) / counts.flat().reduce((sum, count) => sum + count, 0);
  return {
    kind: "test", label: `test_${number}`, run: "baseline", step, epoch: 5, loader: "loader1", mode: "eval", checkpoint: "", by: "dashboard", began: Date.now() / 1000 - 4000 + step, seconds: 0.41, count: 360, partial: false, reason: "", how: "recipe, reproduced 3 of 3",
    verified: true, result: { loss: 0.3 + wrong / 10, accuracy: right, error: 1 - right, confusion: counts, per_class: counts.map((line, label) => ({ class: label, count: line.reduce((sum, count) => sum + count, 0), accuracy: line[label] / line.reduce((sum, count) => sum + count, 0) })) }, embeddings: 0, ...changes,
  };
};
const check = (name, verdict, says, what, numbers, rows = []) => ({ check: name, verdict, says, do: what, numbers, rows, run: "baseline", step: 3000, epoch: 6, time: Date.now() / 1000, by: "dashboard", examination: 1, rank: 0 });
const modules = ["features.0", "features.1", "classify.1", "classify.4"].map((name, at) => ({ module: name, norm: 10 ** -at, update_to_weight: 0.001 * (at + 1), zeros: 0.2 * at }));
const results = [
  check("numerics", "good", "No parameter, gradient, loss or buffer is NaN, infinite or subnormal.", "", { parameters: 79_402, nonfinite: 0 }),
  check("activations", "warning", "Of features.1, 61 % of the channels gave nothing but zero at this step.", "Lower the learning rate, or take LeakyReLU: a channel that never answers does not learn.", { modules: 4, dead: 39 }, modules),
  check("data", "bad", "12 samples of the validation loader are in the training data, byte for byte.", "Split again by the content, not by the file name: validation measures memory else.", { duplicates: 3, overlap: 12, seconds: 1.3 }),
  check("determinism", "unknown", "No checkpoint is in memory from which the step could be taken again.", "Keep one: onthefly ctl SESSION checkpoint", {}),
];

export const answers = [
  ["/selection", { session: "k3f9q2ma", run: "baseline", phase: "train", evaluation: "", epoch: null, select: "worst=100", count: 212, says: "", rows: range(100, row) }], ["/suspects", range(60, suspect)],
  ["/history", { session: "k3f9q2ma", run: "baseline", sample: 1183, key: null, epoch: range(7, (at) => at), step: range(7, (at) => at * 400), loss: [5.2, 4.9, 5.4, "nan", 6.1, 5.8, 6.4], confidence: range(7, () => 0.01) }],
  ["/tags", { session: "k3f9q2ma", tags: [], counts: { "label:wrong": 14, "label:fine": 15, blurred: 2 }, changed: 1 }], ["/map", map],
  ["/evaluations", { session: "k3f9q2ma", evaluations: [evaluation(1, 1000, 4), evaluation(2, 2000, 2, { partial: true, reason: "cancelled by dashboard", count: 192 }), evaluation(3, 3000, 1)] }], ["/health", { session: "k3f9q2ma", results }],
];
