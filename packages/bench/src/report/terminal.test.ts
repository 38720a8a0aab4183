import stringWidth from 'string-width';
import { describe, expect, it } from 'vitest';
import { syntheticResults, withNames } from '../../../cli/test/synthetic-results.js';
import { formatMetric } from '@peftjs/cli/format';
import { summarise } from './statistics/summary.js';
import { renderTable } from './files.js';

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

  it('has a column of scales if some result has one', () => {
    const trials = syntheticResults({ tasks: ['uci-sentiment'], methods: ['head', 'lora'] });
    const textOf = (results: typeof trials): string =>
      renderTable(summarise(results, { reference: 'lora' }), { columns: 200 });
    expect(textOf(trials)).not.toContain('scale');
    const scaled = textOf(trials.map((trial) => (trial.method === 'lora' ? { ...trial, scale: 0.75 } : trial)));
    expect(scaled).toMatch(/learning rate +scale +seeds/);
    expect(scaled).toMatch(/^lora r=4 .* 0\.75 /m);
    expect(scaled).toMatch(/^head .* – +2 /m);
  });

  it('removes control characters', () => {
    const named = withNames(results, { task: 'x\u001b[31m\u202e' });
    const text = renderTable(summarise(named, { reference: 'lora' }));
    expect(text).not.toContain('\u001b');
    expect(text).not.toContain('\u202e');
  });
});
