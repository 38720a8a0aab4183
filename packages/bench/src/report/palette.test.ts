import { expect, it } from 'vitest';
import { HUES, looksOf, type Look } from './palette.js';

/** The arms of the preset `glue`. */
const ARMS = [
  ...['full', 'lora', 'adalora', 'sora', 'sora-paper', 'auto', 'l1ra', 'dynamic-dora', 'alora'],
  ...['bayes-lora', 'gora', 'ela-lora', 'truncated-lora', 'random-gates', 'ia3', 'houlsby', 'bitfit', 'pfeiffer'],
].map((label) => ({ label, method: label }));

it('an arm looks the same in any company, and no two look alike', () => {
  const whole = looksOf(ARMS);
  expect(new Set([...whole.values()].map(({ hue, shape }) => `${hue} ${shape}`)).size).toBe(ARMS.length);
  for (const arm of ARMS) expect(looksOf([arm]).get(arm.label)).toEqual(whole.get(arm.label));
});

it('an unknown arm gets the colour of its method, and no two look alike', () => {
  const strangers = ['mine', 'yours', 'sora-slow'].map((label) => ({
    label,
    method: label === 'sora-slow' ? 'sora' : label,
  }));
  const looks = looksOf([...ARMS, ...strangers]);
  expect(looks.get('sora-slow')?.hue).toBe(looks.get('sora')?.hue);
  expect(new Set([...looks.values()].map(({ hue, shape }) => `${hue} ${shape}`)).size).toBe(ARMS.length + 3);
});

/**
 * Matrices from linear RGB to the colours seen with one kind of cones missing (Machado, Oliveira and Fernandes 2009).
 */
const DEFICIENCIES = {
  none: [1, 0, 0, 0, 1, 0, 0, 0, 1],
  protan: [0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998],
  deutan: [0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.01182, 0.04294, 0.968881],
};

/** A colour in Oklab (Ottosson 2020), as seen with a colour vision deficiency. */
function seen(hex: string, matrix: readonly number[]): number[] {
  const rgb = [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16) / 255).map((value) => value ** 2.2);
  const times = (m: readonly number[], v: readonly number[]): number[] =>
    [0, 3, 6].map((row) => v.reduce((sum, value, column) => sum + (m[row + column] ?? 0) * value, 0));
  const clipped = times(matrix, rgb).map((value) => Math.min(1, Math.max(0, value)));
  const cones = times(
    [
      0.4122214708, 0.5363325363, 0.0514459929, 0.2119034982, 0.6806995451, 0.1073969566, 0.0883024619, 0.2817188376,
      0.6299787005,
    ],
    clipped,
  );
  return times(
    [
      0.2104542553, 0.793617785, -0.0040720468, 1.9779984951, -2.428592205, 0.4505937099, 0.0259040371, 0.7827717662,
      -0.808675766,
    ],
    cones.map(Math.cbrt),
  );
}

it.each(['light', 'dark'] as const)(
  'two arms of one shape have colours that everyone can distinguish in the %s theme',
  (paper) => {
    const looks = [...looksOf(ARMS)];
    const colour = ({ hue }: Look): string => HUES[hue]?.[paper] ?? '';
    for (const [kind, matrix] of Object.entries(DEFICIENCIES)) {
      for (const [a, first] of looks) {
        for (const [b, second] of looks) {
          if (a >= b || first.shape !== second.shape) continue;
          const [x, y] = [seen(colour(first), matrix), seen(colour(second), matrix)];
          const distance = Math.hypot(...x.map((value, axis) => value - (y[axis] ?? 0)));
          expect(distance, `${a} and ${b}, ${kind}`).toBeGreaterThan(0.05);
        }
      }
    }
  },
);
