import { candidatesOf, type Contender, type Contest } from '../contest.js';
import type { Series } from '../contents.js';
import { formatMetric, metricTitle } from '@peftjs/cli/format';
import { drawnAs } from '../palette.js';
import type { Verdict } from '../verdict.js';
import { layered, layerFrom, plain, quantity, type Chart } from './draw.js';

const ROW = 22;
const LABEL_SIZE = 13;
/** The opacity of an arm that is reliably worse than the best one. */
const FAINT = 0.4;

/** The range of scores that neighbouring charts share. */
export type Domain = readonly [number, number];

/** A range that holds all means and intervals of some contests. */
export function domainOf(contests: readonly Contest[]): Domain {
  const ends = contests.flatMap(({ arms }) =>
    arms.flatMap(({ score: { mean, interval } }) => [mean, interval?.low ?? mean, interval?.high ?? mean]),
  );
  const [least, most] = [Math.min(...ends), Math.max(...ends)];
  const margin = Math.max(0.04 * (most - least), 1e-3);
  return [least - margin, most + margin];
}

/** Arms as rows, best mean first, with means and intervals. Equivalent arms share one band. */
export function forestChart(
  contest: Contest,
  { equivalent, worse }: Verdict,
  drawn: { readonly seriesOf: (label: string) => Series; readonly domain: Domain; readonly width: number },
): Chart {
  const { seriesOf, domain, width } = drawn;
  const arms = inGroups(contest, equivalent);
  const labels = arms.map(({ label }) => label);
  const baseline = contest.arms.find((arm) => arm.baseline);
  const where = contest.task ?? 'the mean over tasks';
  const shown = arms.map(({ label, score }) => `${label} ${formatMetric(score.mean)}`);
  return {
    description: `Scores at ${contest.budget.spec} on ${where} with ${contest.model}: ${shown.join(', ')}`,
    spec: layered(
      { width, height: ROW * arms.length },
      {
        x: quantity('mean', {
          ...{ title: titleOf(contest), scale: { domain, nice: false } },
          axis: { grid: true, tickCount: 4 },
        }),
        y: {
          ...{ field: 'label', type: 'nominal', title: null, sort: labels, scale: { domain: labels, padding: 0 } },
          axis: { labelColor: 'var(--ink)', ticks: false, domain: false },
        },
      },
      [
        ...bandLayers(arms, equivalent),
        ...(baseline ? baselineLayers(baseline) : []),
        ...armLayers(arms, seriesOf, worse),
      ],
      { type: 'fit-x' },
    ),
  };
}

/** The title of the axis. */
function titleOf({ task, metric, lowerIsBetter }: Contest): string {
  return metricTitle({ metric: task === null ? `mean ${metric}` : metric, lowerIsBetter });
}

/**
 * Sorts arms so that equivalent ones are adjacent, at the position of their best one; arms over the budget come last.
 */
function inGroups(contest: Contest, equivalent: Verdict['equivalent']): Contender[] {
  const candidates = candidatesOf(contest);
  const grouped = candidates.flatMap((arm) => {
    const group = equivalent.find((labels) => labels.includes(arm.label));
    if (!group) return [arm];
    return group[0] === arm.label ? candidates.filter(({ label }) => group.includes(label)) : [];
  });
  return [...grouped, ...contest.arms.filter((arm) => !arm.baseline && !candidates.includes(arm))];
}

/** A band across the rows of each equivalence group, marked at its right. */
function bandLayers(arms: readonly Contender[], equivalent: Verdict['equivalent']): object[] {
  return equivalent.flatMap((labels) => {
    const rows = arms.flatMap(({ label }, index) => (labels.includes(label) ? [index] : []));
    if (rows.length < 2) return [];
    const [top, bottom] = [ROW * Math.min(...rows), ROW * (Math.max(...rows) + 1)];
    return [
      layerFrom(
        [{}],
        { type: 'rect', color: 'var(--band)', cornerRadius: 4 },
        { x: { value: 0 }, x2: { value: 'width' }, y: { value: top + 1 }, y2: { value: bottom - 1 } },
      ),
      layerFrom(
        [{ text: '≈' }],
        { type: 'text', align: 'left', baseline: 'middle', dx: 4, color: 'var(--soft)', fontSize: 16 },
        { x: { value: 'width' }, y: { value: (top + bottom) / 2 }, text: { field: 'text' } },
      ),
    ];
  });
}

/** The frozen baseline: a line across all rows, with a band for its interval. */
function baselineLayers({ label, score: { mean, interval } }: Contender): object[] {
  const line = [{ mean, low: interval?.low ?? mean, high: interval?.high ?? mean, text: label }];
  const tall = { y: { value: 0 }, y2: { value: 'height' } };
  return [
    layerFrom(
      line,
      { type: 'rect', color: 'var(--series-0)', opacity: 0.14 },
      { ...tall, x: quantity('low'), x2: { field: 'high' } },
    ),
    layerFrom(line, { type: 'rule', color: 'var(--series-0)', strokeDash: [2, 3], strokeWidth: 1.5 }, tall),
    layerFrom(
      line,
      { type: 'text', baseline: 'bottom', dy: -3, color: 'var(--soft)', fontSize: LABEL_SIZE },
      { y: { value: 0 }, text: { field: 'text' } },
    ),
  ];
}

function armLayers(
  arms: readonly Contender[],
  seriesOf: (label: string) => Series,
  worse: readonly string[],
): object[] {
  const rows = arms.map(({ label, score: { mean, interval } }) => {
    const { color, outline } = drawnAs(seriesOf(label).look);
    const [low, high] = [interval?.low ?? mean, interval?.high ?? mean];
    return { label, mean, low, high, color, outline, opacity: worse.includes(label) ? FAINT : 1 };
  });
  const paint = { color: plain('color'), opacity: plain('opacity', 'quantitative') };
  return [
    layerFrom(rows, { type: 'rule', strokeWidth: 2 }, { ...paint, x: quantity('low'), x2: { field: 'high' } }),
    layerFrom(rows, { type: 'point', filled: true, size: 90 }, { ...paint, shape: plain('outline') }),
  ];
}
