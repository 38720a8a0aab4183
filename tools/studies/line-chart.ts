import { svgOf } from '../perf-peer/tables.js';

/** A line of a chart. */
interface Line {
  /** Its name, at its end. */
  readonly label: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

/** What a chart shows. */
interface LineChart {
  /** The names of the axes. */
  readonly x: string;
  readonly y: string;
  readonly lines: readonly Line[];
  /** Formats the number at a point. */
  readonly shown: (y: number) => string;
}

const [WIDTH, HEIGHT] = [760, 320];
const [LEFT, RIGHT, TOP, BOTTOM] = [40, 110, 56, 56];
const COLOURS = ['#0072b2', '#d55e00'];

/** Returns an SVG of lines over axes from 0, with the number at each point. */
export function lineChart({ x, y, lines, shown }: LineChart): string {
  const all = lines.flatMap(({ points }) => points);
  const [right, top] = [0, 1].map((axis) => Math.max(...all.map((point) => point[axis] as number))) as [number, number];
  const across = (value: number): number => LEFT + Math.round(((WIDTH - LEFT - RIGHT) * value) / right);
  const up = (value: number): number => HEIGHT - BOTTOM - Math.round(((HEIGHT - TOP - BOTTOM) * value) / top);
  const ticks = [...new Set(all.map(([at]) => at))].map(
    (at) =>
      `<text x="${across(at)}" y="${HEIGHT - BOTTOM + 22}" text-anchor="middle">${at.toLocaleString('en')}</text>`,
  );
  return svgOf(WIDTH, HEIGHT, [
    `<text x="16" y="24" font-weight="bold">${y}</text>`,
    `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${up(0)}" y2="${up(0)}" stroke="#999"/>`,
    ...ticks,
    `<text x="${WIDTH - RIGHT}" y="${HEIGHT - 10}" text-anchor="end">${x}</text>`,
    ...lines.map(({ label, points }, index) => {
      const colour = COLOURS[index % COLOURS.length] as string;
      const [endX, endY] = points.at(-1) ?? [0, 0];
      return [
        `<polyline points="${points.map(([at, value]) => `${across(at)},${up(value)}`).join(' ')}" fill="none" stroke="${colour}" stroke-width="2"/>`,
        ...points.map(
          ([at, value]) =>
            `<circle cx="${across(at)}" cy="${up(value)}" r="4" fill="${colour}"/>` +
            `<text x="${across(at)}" y="${up(value) + (index === 0 ? -10 : 20)}" text-anchor="middle" fill="${colour}">${shown(value)}</text>`,
        ),
        `<text x="${across(endX) + 20}" y="${up(endY) + 5}" fill="${colour}">${label}</text>`,
      ].join('\n');
    }),
  ]);
}
