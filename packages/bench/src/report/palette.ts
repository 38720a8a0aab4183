import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/** The look of a series, the same in every chart of every report and page: colour, shape and dash. */
export interface Look {
  /** The index of the colour; 0 is the neutral one of the frozen baseline. */
  readonly hue: number;
  /** The index of the shape, and of the dash of lines. */
  readonly shape: number;
}

/**
 * Okabe and Ito's palette, safe for colour-blind readers, adjusted for light and dark themes. Where some readers may
 * confuse two colours, the shapes differ.
 */
export const HUES: readonly { readonly light: string; readonly dark: string }[] = [
  { light: '#6b7280', dark: '#9aa3b2' },
  { light: '#0072b2', dark: '#4ba3e3' },
  { light: '#d55e00', dark: '#ff8b3d' },
  { light: '#009e73', dark: '#3ad3a5' },
  { light: '#b5578f', dark: '#d97fc6' },
  { light: '#b88700', dark: '#f0c232' },
  { light: '#4a4fb5', dark: '#b9aaff' },
  { light: '#7a4b1e', dark: '#c99a6b' },
];

/** Outlines of about equal area, in a box from -1 to 1. */
const SHAPES = [
  'M1,0A1,1,0,1,1,-1,0A1,1,0,1,1,1,0Z',
  'M-.9,-.9h1.8v1.8h-1.8Z',
  'M0,-1.15L1.15,.85H-1.15Z',
  'M0,-1.3L1,0L0,1.3L-1,0Z',
  'M0,1.15L1.15,-.85H-1.15Z',
  'M-.4,-1.1h.8v.7h.7v.8h-.7v.7h-.8v-.7h-.7v-.8h.7Z',
  'M0,-1.3L.32,-.44L1.24,-.4L.52,.17L.76,1.05L0,.55L-.76,1.05L-.52,.17L-1.24,-.4L-.32,-.44Z',
  'M1.15,0L-.85,1.15V-1.15Z',
] as const;

const DASHES: readonly (readonly number[])[] = [
  [1, 0],
  [9, 3],
  [4, 2],
  [10, 2, 2, 2],
  [6, 2, 2, 2, 2, 2],
  [14, 4],
  [2, 2],
  [12, 3, 4, 3],
];

const FOLDER = dirname(createRequire(import.meta.url).resolve('@peftjs/bench/package.json'));
/**
 * Known arms by colour, with related ones together; within a colour all shapes differ. It is a data file, so that no
 * code names a method.
 */
const KNOWN = JSON.parse(readFileSync(join(FOLDER, 'looks.json'), 'utf8')) as readonly (readonly string[])[];

/** The look of the frozen baseline. */
export const NEUTRAL: Look = { hue: 0, shape: 0 };

/** An arm of a report. */
export interface Named {
  /** The name of the arm. */
  readonly label: string;
  /** Its method. */
  readonly method: string;
}

/**
 * The look of every arm, by label. Known arms look the same everywhere. Another arm gets its method's colour, or the
 * next colour, and a shape that no arm of this colour has.
 */
export function looksOf(arms: readonly Named[]): Map<string, Look> {
  const looks = new Map(arms.flatMap(({ label }) => knownLook(label)));
  const strangers = arms.filter(({ label }) => !looks.has(label)).sort((a, b) => (a.label < b.label ? -1 : 1));
  for (const { label, method } of strangers) {
    const hue = hueOf(method) ?? 1 + (looks.size % (HUES.length - 1));
    looks.set(label, { hue, shape: freeShape(hue, [...looks.values()]) });
  }
  return looks;
}

function knownLook(label: string): [string, Look][] {
  const hue = hueOf(label);
  return hue === undefined ? [] : [[label, { hue, shape: shapeAt(hue, KNOWN[hue]?.indexOf(label) ?? 0) }]];
}

function hueOf(name: string): number | undefined {
  const hue = KNOWN.findIndex((names) => names.includes(name));
  return hue < 0 ? undefined : hue;
}

/** The shape at a position within a colour. Each colour starts with a different shape. */
function shapeAt(hue: number, position: number): number {
  return (Math.max(0, hue - 1) + position) % SHAPES.length;
}

/** The last shape that no look of the colour has: known arms have the first ones. If all are in use, they repeat. */
function freeShape(hue: number, looks: readonly Look[]): number {
  const used = new Set(looks.filter((look) => look.hue === hue).map(({ shape }) => shape));
  const positions = SHAPES.map((_, index) => SHAPES.length - 1 - index);
  const free = positions.find((position) => !used.has(shapeAt(hue, position)));
  return shapeAt(hue, free ?? used.size);
}

/** The colour as a CSS variable of the page, the outline, and the dash of lines. */
export function drawnAs({ hue, shape }: Look): { color: string; outline: string; dash: number[] } {
  return {
    color: `var(--series-${hue})`,
    outline: SHAPES[shape % SHAPES.length] as string,
    dash: hue === NEUTRAL.hue ? [2, 3] : [...(DASHES[shape % DASHES.length] as readonly number[])],
  };
}
