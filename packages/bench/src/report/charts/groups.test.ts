import { expect, it } from 'vitest';
import { around, trialsOf } from '../../../../cli/test/synthetic-results.js';
import { contestsOf } from '../contest.js';
import { seriesByLabel } from '../contents.js';
import { summarise } from '../statistics/summary.js';
import { WIDE } from './draw.js';
import { forestChart, rangeOf, scoreChart } from './scores.js';

const trials = trialsOf({
  head: { scores: around(0.7, 0.002) },
  lora: { scores: around(0.8, 0.002) },
  adalora: { scores: around(0.79, 0.03, -1) },
  sora: { scores: around(0.8005, 0.002, -1) },
  l1ra: { scores: around(0.75, 0.002) },
});
const summary = summarise(trials, { reference: 'lora', margin: 0.01 });
const [contest] = contestsOf(summary);
const [verdict] = summary.verdicts;
const seriesOf = seriesByLabel(summary.rows);

/** A layer of a chart: its mark, encoding and data. */
interface Layer {
  readonly mark: { readonly type: string; readonly filled?: boolean; readonly color?: string };
  readonly encoding: Readonly<Record<string, { readonly value?: number }>>;
  readonly data: { readonly values: readonly Readonly<Record<string, number | string>>[] };
}

function layersOf(spec: object): readonly Layer[] {
  return (spec as { layer: readonly Layer[] }).layer;
}

it('equivalent arms are adjacent on one band, and only reliably worse arms are faint', () => {
  if (!contest || !verdict) expect.fail('no contest');
  expect(verdict).toMatchObject({ equivalent: [['sora', 'lora']], open: ['adalora'], worse: ['l1ra'] });
  const layers = layersOf(
    forestChart(contest, verdict, { seriesOf, domain: rangeOf(contest.arms.map(({ score }) => score)), width: 300 })
      .spec,
  );
  const arms = layers.find(({ mark }) => mark.type === 'point')?.data.values ?? [];
  expect(arms.map(({ label, opacity }) => [label, opacity === 1])).toEqual([
    ['sora', true],
    ['lora', true],
    ['adalora', true],
    ['l1ra', false],
  ]);
  const bands = layers.filter(({ mark }) => mark.color === 'var(--band)');
  expect(bands.map(({ encoding }) => [encoding.y?.value, encoding.y2?.value])).toEqual([[1, 2 * 22 - 1]]);
});

it('every frozen model is a line, in both charts, and no point', () => {
  const before = trials
    .filter(({ arm }) => arm === 'head')
    .map((trial) => ({ ...trial, id: `${trial.id}-1`, protocol: { ...trial.protocol, epochs: 1 } }));
  const both = summarise([...trials, ...before], { reference: 'lora' });
  const [first = expect.fail()] = contestsOf(both);
  const [found = expect.fail()] = both.verdicts;
  const metric = { metric: 'accuracy', lowerIsBetter: false };
  const charts = [
    forestChart(first, found, { seriesOf, domain: [0, 1], width: 300 }),
    scoreChart(both.overall, { subject: '', metric, seriesOf, verdicts: [] }, WIDE),
  ];
  for (const { spec } of charts) {
    const layers = layersOf(spec);
    const texts = layers.flatMap(({ mark, data }) => (mark.type === 'text' ? data.values : []));
    const lines = texts.map(({ text }) => String(text)).filter((text) => text.startsWith('head'));
    expect(lines).toEqual([expect.stringContaining('head (1)'), expect.stringContaining('head (2)')]);
    const points = layers.filter(({ mark }) => mark.type === 'point' && mark.filled).at(-1)?.data.values ?? [];
    expect(points).toHaveLength(4);
  }
});

it('the size chart has the same faint arms', () => {
  const verdicts = summary.verdicts.filter(({ task }) => task === null);
  const metric = { metric: 'accuracy', lowerIsBetter: false };
  const layers = layersOf(scoreChart(summary.overall, { subject: '', metric, seriesOf, verdicts }, WIDE).spec);
  const points = layers.filter(({ mark }) => mark.type === 'point' && mark.filled).at(-1)?.data.values ?? [];
  expect(points.map(({ value, opacity }) => [Number(value), opacity === 1])).toEqual(
    summary.overall.filter(({ baseline }) => !baseline).map(({ label, score }) => [score.mean, label !== 'l1ra']),
  );
});
