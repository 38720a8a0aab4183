import stringWidth from 'string-width';
import { describe, expect, it } from 'vitest';
import { syntheticResults, withNames } from '../../../cli/test/synthetic-results.js';
import { formatMetric } from '@peftjs/cli/format';
import { summarise } from './statistics/summary.js';
import { renderCsv, renderSummaryCsv, renderTable } from './files.js';

const results = syntheticResults({ seeds: 2 });
const summary = summarise(results, { reference: 'lora' });

describe('renderTable', () => {
  const [first] = summary.verdicts.filter(({ task }) => task === null);

  it('fits the terminal, states the verdict, and keeps the scores', () => {
    for (const columns of [40, 60, 80, 120, 200]) {
      const lines = renderTable(summary, { columns }).split('\n');
      for (const line of lines) expect(stringWidth(line)).toBeLessThanOrEqual(columns);
      const text = lines.join(' ').replaceAll('\u00a0', ' ');
      expect(text).toContain(first?.sentences.join(' '));
      for (const { score } of summary.overall) expect(text).toContain(formatMetric(score.mean));
      expect(text).toContain('against lora: paired difference');
    }
  });

  it('has a table with every column for a single task', () => {
    const onOne = summarise(syntheticResults({ tasks: ['uci-sentiment'] }), { reference: 'lora' });
    expect(renderTable(onOne, { columns: 200 })).toContain('learning rate');
    expect(renderTable(onOne, { columns: 40 })).toContain(formatMetric(onOne.rows[0]?.score.mean ?? NaN));
  });

  describe('with scales', () => {
    const trials = syntheticResults({ tasks: ['uci-sentiment'], methods: ['head', 'lora'] });
    const scaled = trials.map((trial) => (trial.method === 'lora' ? { ...trial, scale: 0.75 } : trial));
    const summaryOf = (results: typeof trials) => summarise(results, { reference: 'lora' });
    const textOf = (results: typeof trials): string => renderTable(summaryOf(results), { columns: 200 });

    it('has a column of them if some result has one', () => {
      expect(textOf(trials)).not.toContain('scale');
      expect(textOf(scaled)).toMatch(/learning rate +scale +seeds/);
      expect(textOf(scaled)).toMatch(/^lora r=4 .* 0\.75 /m);
      expect(textOf(scaled)).toMatch(/^head .* – +2 /m);
    });

    it('has them in both tables in CSV', () => {
      for (const csv of [renderCsv(scaled), renderSummaryCsv(summaryOf(scaled))]) {
        const [header = [], ...lines] = csv.split('\r\n').map((line) => line.split(','));
        const of = (method: string) => lines.find((line) => line[header.indexOf('method')] === method);
        expect(['head', 'lora'].map((method) => of(method)?.[header.indexOf('scale')])).toEqual(['', '0.75']);
      }
    });
  });

  it('removes control characters', () => {
    const named = withNames(results, { task: 'x\u001b[31m\u202e' });
    const text = renderTable(summarise(named, { reference: 'lora' }));
    expect(text).not.toContain('\u001b');
    expect(text).not.toContain('\u202e');
  });
});
