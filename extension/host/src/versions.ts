// Versions compared as Python compares them (PEP 440): 1.0.0.dev0 < 1.0a1 < 1.0rc1 < 1.0 < 1.0.post1. A part after `+` says
// how something was built, and does not count here.

const VERSION = /^v?(?:(\d+)!)?(\d+(?:\.\d+)*)(?:[-_.]?(a|alpha|b|beta|c|rc|pre|preview)[-_.]?(\d*))?(?:[-_.]?(post|rev|r)[-_.]?(\d*)|-(\d+))?(?:[-_.]?(dev)[-_.]?(\d*))?(?:\+[a-z0-9.]+)?$/i;
const PHASES: Readonly<Record<string, number>> = { a: 0, alpha: 0, b: 1, beta: 1, c: 2, rc: 2, pre: 2, preview: 2 };
/** Of a version without that part. */
const [FIRST, FINAL] = [-1, 3];

interface Version {
  release: number[];
  /** Epoch before the release; phase, its number, post and dev after it. */
  epoch: number;
  rest: [number, number, number, number];
}

function parse(text: string): Version | null {
  const found = VERSION.exec(text.trim());
  if (!found) return null;
  const [, epoch, release = "", phase, phaseNumber, post, postNumber, plain, dev, devNumber] = found;
  const posted = post !== undefined || plain !== undefined;
  const stage = phase === undefined ? (dev !== undefined && !posted ? FIRST : FINAL) : (PHASES[phase.toLowerCase()] ?? FINAL);
  return {
    epoch: Number(epoch ?? 0),
    release: release.split(".").map(Number),
    rest: [stage, Number(phaseNumber ?? 0), posted ? Number(postNumber ?? plain ?? 0) : -1, dev === undefined ? Infinity : Number(devNumber ?? 0)],
  };
}

/** Whether `version` is `oldest` or newer. False where one of them is no version. */
export function atLeast(version: string, oldest: string): boolean {
  const [ours, theirs] = [parse(version), parse(oldest)];
  if (!ours || !theirs) return false;
  const length = Math.max(ours.release.length, theirs.release.length);
  const key = ({ epoch, release, rest }: Version) => [epoch, ...Array.from({ length }, (_, place) => release[place] ?? 0), ...rest];
  const [left, right] = [key(ours), key(theirs)];
  const place = left.findIndex((number, at) => number !== right[at]);
  return place < 0 || (left[place] ?? 0) > (right[place] ?? 0);
}
