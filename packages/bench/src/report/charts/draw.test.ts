import { expect, it } from 'vitest';
import { spread } from './draw.js';

it('spread keeps positions that are far enough apart, and separates the others within the bounds', () => {
  expect(spread([1, 5, 9], { gap: 1, low: 0, high: 10 })).toEqual([1, 5, 9]);
  const places = spread([9.8, 9.9, 10, 0], { gap: 2, low: 0, high: 10 });
  expect(places).toEqual([6, 8, 10, 0]);
});
