import { expect, it } from 'vitest';
import { dotChart } from './dot-chart.js';

it('places dots and references by their values, between the tenths around them', () => {
  const rows = [{ label: 'a', reference: { mean: 0.5, sd: 0.05 }, dots: [0.4, 0.6] }];
  const svg = dotChart({ reference: 'theirs', dots: 'ours', rows });
  for (const x of [230, 736]) expect(svg).toContain(`<circle cx="${x}" cy="77"`);
  expect(svg).toContain('<line x1="357" x2="610" y1="63"');
});
