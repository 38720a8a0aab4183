import { svgOf } from '../perf-peer/tables.js';

/** A row of a chart. */
interface DotRow {
  readonly label: string;
  /** What the dots are compared with. */
  readonly reference: { readonly mean: number; readonly sd?: number | undefined };
  readonly dots: readonly number[];
}

const [WIDTH, STEP, LABELS, RIGHT, TOP, BOTTOM] = [760, 36, 230, 24, 52, 40];
const [OURS, THEIRS] = ['#0072b2', '#888'];

/** What a chart shows. */
interface DotChart {
  /** The names of the references and of the dots. */
  readonly reference: string;
  readonly dots: string;
  readonly rows: readonly DotRow[];
}

/** Returns an SVG of scores: the dots of each row under its reference, a diamond with its deviation. */
export function dotChart({ reference: theirs, dots: ours, rows }: DotChart): string {
  const values = rows.flatMap(({ reference: { mean, sd = 0 }, dots }) => [mean - sd, mean + sd, ...dots]);
  const [first, last] = [Math.floor(10 * Math.min(...values)), Math.ceil(10 * Math.max(...values))];
  const height = TOP + rows.length * STEP + BOTTOM;
  const across = (value: number): number =>
    LABELS + Math.round(((WIDTH - LABELS - RIGHT) * (10 * value - first)) / (last - first));
  const ticks = Array.from({ length: last - first + 1 }, (_, index) => (first + index) / 10).map(
    (at) =>
      `<line x1="${across(at)}" x2="${across(at)}" y1="${TOP - 8}" y2="${height - BOTTOM}" stroke="#ddd"/>` +
      `<text x="${across(at)}" y="${height - BOTTOM + 20}" text-anchor="middle">${at}</text>`,
  );
  return svgOf(WIDTH, height, [
    diamond(LABELS + 6, 20) + `<text x="${LABELS + 20}" y="25">${theirs}</text>`,
    dot(LABELS + 246, 20) + `<text x="${LABELS + 260}" y="25">${ours}</text>`,
    ...ticks,
    ...rows.map(({ label, reference, dots }, index) => {
      const y = TOP + (index + 0.5) * STEP;
      const { mean, sd = 0 } = reference;
      const [low, center, high] = [mean - sd, mean, mean + sd].map(across) as [number, number, number];
      return [
        `<text x="${LABELS - 12}" y="${y + 5}" text-anchor="end">${label}</text>`,
        `<line x1="${low}" x2="${high}" y1="${y - 7}" y2="${y - 7}" stroke="${THEIRS}" stroke-width="2"/>`,
        diamond(center, y - 7),
        ...dots.map((value) => dot(across(value), y + 7)),
      ].join('\n');
    }),
  ]);
}

function diamond(x: number, y: number): string {
  return `<path d="M${x - 6},${y}l6,-6l6,6l-6,6z" fill="${THEIRS}"/>`;
}

function dot(x: number, y: number): string {
  return `<circle cx="${x}" cy="${y}" r="5" fill="${OURS}" fill-opacity="0.7"/>`;
}
