import { expect, it } from 'vitest';
import { lineChart } from './line-chart.js';

it('places points by their values, from 0 at the bottom left to the largest at the top right', () => {
  const points = [
    [0, 8],
    [100, 4],
    [400, 0],
  ] as const;
  const svg = lineChart({ x: 'steps', y: 'loss', lines: [{ label: 'a', points }], shown: String });
  expect(svg).toContain('<polyline points="40,56 193,160 650,264"');
  expect(svg).toContain('>8</text>');
});
