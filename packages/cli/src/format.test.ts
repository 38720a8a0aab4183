import { describe, expect, it } from 'vitest';
import { formatBytes, formatDuration, formatMetric, formatShortCount, metricTitle, quoted } from './format.js';

describe('formatMetric', () => {
  it.each([
    [0.91234, '0.912'],
    [-0.5, '−0.500'],
    [99.99, '99.990'],
    [118.87, '118.9'],
    [9999, '9999'],
    [9999.9, '10,000'],
    [-0.0001, '0.000'],
    [50_257.4, '50,257'],
    [-12_345, '−12,345'],
  ])('shows %d as %s', (value, text) => {
    expect(formatMetric(value)).toBe(text);
  });

  it.each([
    [null, '–'],
    [Infinity, '∞'],
    [-Infinity, '−∞'],
    [NaN, 'NaN'],
  ])('shows the non-finite %s as %s', (value, text) => {
    expect(formatMetric(value)).toBe(text);
  });
});

it('short counts take the unit of the rounded number', () => {
  expect([9_999, 10_000, 999_949, 999_950].map(formatShortCount)).toEqual(['9,999', '10k', '999.9k', '1M']);
});

describe('formatDuration', () => {
  it('shows a dash for an unknown time', () => {
    expect(formatDuration(Infinity)).toBe('–');
  });

  it('takes the unit of the rounded time', () => {
    expect([3599.4, 3599.7].map(formatDuration)).toEqual(['59:59 min', '1:00:00 h']);
  });
});

describe('formatBytes', () => {
  it.each([
    [480, '480\u00a0B'],
    [3686, '3.6\u00a0KiB'],
    [460_000, '449\u00a0KiB'],
    [3_670_016, '3.5\u00a0MiB'],
  ])('shows %d as %s', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });
});

describe('metricTitle', () => {
  it('says whether less is better', () => {
    expect(metricTitle({ metric: 'perplexity', lowerIsBetter: true })).toBe('perplexity (less is better)');
    expect(metricTitle({ metric: 'accuracy', lowerIsBetter: false })).toBe('accuracy');
  });
});

describe('quoted', () => {
  it.each([
    ['results/first-run', 'results/first-run'],
    ['C:\\my results', '"C:\\my results"'],
    ["it's mine", '"it\'s mine"'],
    ['$HOME/a b', "'$HOME/a b'"],
    ["it's `date`", String.raw`'it'\''s ` + "`date`'"],
  ])('writes %s as %s', (path, text) => {
    expect(quoted(path)).toBe(text);
  });
});
