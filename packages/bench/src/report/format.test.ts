import { describe, expect, it } from 'vitest';
import { formatMetric, metricTitle } from './format.js';

describe('formatMetric', () => {
  it.each([
    [0.91234, '0.912'],
    [-0.5, '−0.500'],
    [99.99, '99.990'],
    [118.87, '118.9'],
    [9999, '9999'],
    [50_257.4, '50,257'],
    [-12_345, '−12,345'],
  ])('shows %d as %s', (value, text) => {
    expect(formatMetric(value)).toBe(text);
  });
});

describe('metricTitle', () => {
  it('says where less is better', () => {
    expect(metricTitle({ metric: 'perplexity', lowerIsBetter: true })).toBe('perplexity (less is better)');
    expect(metricTitle({ metric: 'accuracy', lowerIsBetter: false })).toBe('accuracy');
  });
});
