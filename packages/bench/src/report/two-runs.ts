import { cell, facts, heading, list, note, table, type Block, type Cell, type Column } from './blocks.js';
import type { Fact } from './contents.js';
import {
  formatCount,
  formatDuration,
  formatInterval,
  formatMebibytes,
  formatMetric,
  formatMilliseconds,
  formatP,
  formatShare,
} from '@peftjs/cli/format';
import { differenceCell } from './results.js';
import type { Change, ChangedSetting, RunComparison, RunDifference, UnpairedTrials } from './statistics/two-runs.js';

const COLUMNS: readonly Column<RunDifference>[] = [
  { title: 'task', cell: ({ task }) => cell(task) },
  { title: 'arm', cell: ({ label, budget }) => ({ ...cell(label, budget), brief: budget }) },
  { title: 'metric, here', cell: ({ score, metric }) => cell(formatMetric(score.here), metric) },
  { title: 'there', cell: ({ score }) => cell(formatMetric(score.there)) },
  { title: 'difference', cell: ({ score }) => differenceCell(score) },
  { title: 'stored', cell: ({ stored }) => changeCell(stored, formatCount) },
  { title: 'time per trial', cell: ({ totalSeconds }) => changeCell(totalSeconds, formatDuration) },
  { title: 'step', cell: ({ stepMedianMs }) => changeCell(stepMedianMs, formatMilliseconds) },
  { title: 'peak memory', cell: ({ peakRssBytes }) => changeCell(peakRssBytes, formatMebibytes) },
  { title: 'seeds', cell: ({ seeds }) => cell(String(seeds.length)) },
];

/** What differs between two runs besides their numbers. */
function changedFact({ what, here, there, labels }: ChangedSetting): Fact {
  return { term: what, value: `${here ?? 'none'} here, ${there ?? 'none'} there (${labels.join(', ')})` };
}

/** Unpaired trials, in words. */
function unpairedName({ in: side, label, task, budget, seeds }: UnpairedTrials): string {
  return `only ${side}: ${label} on ${task}, ${budget}, ${seeds.length === 1 ? 'seed' : 'seeds'} ${seeds.join(', ')}`;
}

/** The value here, with its difference from the value there and the interval of that difference. */
function changeCell(change: Change, format: (value: number) => string): Cell {
  const { here, there, mean, interval, p } = change;
  if (mean === 0 && (interval === null || (interval.low === 0 && interval.high === 0)))
    return cell(format(here), 'the\u00a0same');
  const signed = (value: number): string => `${value < 0 ? '−' : '+'}${format(Math.abs(value))}`;
  const share = there > 0 ? `${mean < 0 ? '−' : '+'}${formatShare(Math.abs(mean) / there)}` : signed(mean);
  const spread = interval ? ` ${formatInterval(interval, signed)}` : '';
  return { ...cell(format(here), `${share}${spread}, ${formatP(p)}`), brief: share };
}

/** The section that compares this run with another run of the same study. */
export function twoRunsBlocks({ against, rows, unpaired, changed }: RunComparison): Block[] {
  return [
    heading(`Compared with ${against}`),
    note(
      'Trials of the same arm, task, budget and seed, here minus there; intervals are of the mean difference, p is the exact sign-flip p, adjusted by Holm over the tasks of an arm and budget. Times and memory are comparable only where both runs had the same machine to themselves.',
      'page',
    ),
    table(COLUMNS, rows, 'runs'),
    heading('What differs besides the numbers', 3),
    changed.length === 0
      ? note(
          'Nothing: versions, engine, protocol, budgets and options are the same. So are the model and the rows, as far as their content is recorded.',
        )
      : facts(changed.map(changedFact)),
    ...(unpaired.length === 0 ? [] : [heading('Trials without a pair', 3), list(unpaired.map(unpairedName))]),
  ];
}
