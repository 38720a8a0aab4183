import {
  cell,
  groupedTable,
  table,
  type Block,
  type Cell,
  type Column,
  type Table,
  heading,
  note,
  paragraph,
} from './blocks.js';
import type { BudgetGroup, Panel } from './contents.js';
import {
  formatAdjustedP,
  formatBytes,
  formatCount,
  formatDuration,
  formatInterval,
  formatMebibytes,
  formatMetric,
  formatMilliseconds,
  formatP,
  formatShare,
  formatSigned,
  formatSmall,
  metricTitle,
  formatPlainP,
} from '@peftjs/cli/format';
import { grouped, type Comparison } from './statistics/comparisons.js';
import { orientedScore, type Difference, type OverallRow, type SummaryRow } from './statistics/rows.js';
import { isOnTop, type Verdict } from './verdict.js';
import type { Contest } from './contest.js';
import { LEVEL } from './statistics/equivalence.js';

/** Up to this many rows are shown as cards on a phone; more are a scrollable table. */
const MAX_CARDS = 12;

/** The column of the factor of the change. */
const SCALE = 'scale';

/** The results on a task, by budget. */
export function resultsTable(panel: Panel, reference: string, verdicts: readonly Verdict[]): Table {
  const { budgets, entries } = panel;
  const isTop = ({ label, budget }: SummaryRow): boolean => isOnTop(verdicts, label, budget.spec);
  const groups = budgets.map((group) => ({
    ...(group.requested === null ? {} : { title: budgetTitle(group) }),
    suffix: group.spec === 'none' ? '' : ` ${group.spec}`,
    rows: group.entries.map(({ row }) => row),
  }));
  const hasScales = entries.some(({ row }) => row.scale !== undefined);
  const columns = columnsFor(panel, reference, isTop).filter(({ title }) => title !== SCALE || hasScales);
  return groupedTable(columns, groups, entries.length > MAX_CARDS ? 'results' : 'results cards');
}

/** A budget in words, e.g. `r=4: 57,344 stored parameters`. */
export function budgetTitle({ spec, requested, matchedOn }: Omit<BudgetGroup, 'entries'>): string {
  if (requested === null) return spec === 'none' ? 'no budget' : spec;
  const size = `${formatCount(requested)} ${matchedOn} parameters`;
  return spec === String(requested) ? size : `${spec}: ${size}`;
}

/** The columns for rows of one metric, compared with one reference; `isTop` marks the best rows. */
function columnsFor(
  metric: Parameters<typeof metricTitle>[0],
  reference: string,
  isTop: (row: SummaryRow) => boolean,
): Column<SummaryRow>[] {
  return [
    {
      title: 'method',
      cell: (row) => ({ ...cell(row.label, ...methodNotes(row)), look: isTop(row) ? 'best' : 'method' }),
    },
    { title: metricTitle(metric), cell: (row) => scoreCell(row, isTop(row)) },
    { title: `against ${reference}`, cell: (row) => referenceCell(row, reference) },
    { title: 'stored', cell: storedCell },
    { title: 'budget', cell: budgetCell },
    { title: 'time per trial', cell: timeCell },
    { title: 'learning rate', cell: (row) => cell(formatSmall(row.learningRate)) },
    { title: SCALE, cell: ({ scale }) => cell(scale === undefined ? '–' : formatSmall(scale)) },
    { title: 'seeds', cell: ({ seeds }) => cell(String(seeds.length)) },
    { title: 'trained at the start', cell: trainedCell },
  ];
}

function scoreCell({ score: { mean, sd, interval } }: SummaryRow, isTop: boolean): Cell {
  const look = isTop ? 'score best' : 'score';
  if (sd === null || interval === null) return { ...cell(formatMetric(mean), 'one seed'), look };
  const brief = `± ${formatMetric(sd)}`;
  return { ...cell(formatMetric(mean), `${brief} ${formatInterval(interval)}`), brief, look };
}

function referenceCell({ arm, difference }: SummaryRow, reference: string): Cell {
  if (arm === reference) return cell('reference');
  return difference ? { ...differenceCell(difference), look: 'difference' } : cell('–');
}

/** A paired difference with its interval and p, and the adjusted p if it differs. */
export function differenceCell(difference: Omit<Difference, 'to'>): Cell {
  const brief = formatP(difference.p);
  const interval = difference.interval ? `${formatInterval(difference.interval, formatSigned)}, ` : '';
  const adjusted = difference.pHolm === difference.p ? '' : `, ${formatAdjustedP(difference.pHolm)}`;
  return { ...cell(formatSigned(difference.mean), `${interval}${brief}${adjusted}`), brief };
}

function storedCell({ parameters: { stored, storedMean, base } }: SummaryRow): Cell {
  const [end, mean] = [formatCount(stored), formatCount(storedMean)];
  const details = [
    ...(stored > 0 && base > 0 ? [`${formatShare(stored / base)} of the base`] : []),
    ...(mean === end ? [] : [`${mean} on average`]),
  ];
  return details.length === 0 ? cell(end) : cell(end, details.join('; '));
}

function trainedCell({ parameters: { trainableAtStart, optimizerBytes } }: SummaryRow): Cell {
  return { ...cell(formatCount(trainableAtStart), `${formatBytes(optimizerBytes)} of moments`), look: 'trained' };
}

function timeCell({ time: { totalSeconds, stepMedianMs }, peakRssBytes }: SummaryRow): Cell {
  const details = [`${formatMilliseconds(stepMedianMs)} per step`, `${formatMebibytes(peakRssBytes)} at most`];
  return { ...cell(formatDuration(totalSeconds), ...details), look: 'time' };
}

function budgetCell({ budget: { requested, met } }: SummaryRow): Cell {
  if (requested === null) return cell('–');
  const main = met ? 'met' : 'missed';
  return { ...cell(main, `of\u00a0${formatCount(requested)}`), look: main };
}

function methodNotes({ baseline, parameters, unranked, budget }: SummaryRow): string[] {
  if (baseline) return ['frozen baseline'];
  return [
    ...(parameters.stored === 0 ? ['kept no rank'] : []),
    ...(unranked !== null && budget.requested !== null ? [`not ranked: ${unranked}`] : []),
  ];
}

/** The means over the tasks: arms down, the best first, and budgets across. */
export function overallTable(rows: readonly OverallRow[], verdicts: readonly Verdict[]): Table {
  const budgeted = rows.filter(({ budget }) => budget.requested !== null);
  const free = rows.filter(({ budget }) => budget.requested === null);
  const atBudgets = grouped([...budgeted, ...free], ({ budget }) => budget.spec);
  const columns = atBudgets.map((own): Column<string> => {
    const { spec, requested, matchedOn } = own[0].budget;
    return {
      title: spec === 'none' ? 'no budget' : spec,
      ...(requested === null ? {} : { detail: `${formatCount(requested)} ${matchedOn}` }),
      cell: (label) => {
        const row = own.find((each) => each.label === label);
        return row ? { ...meanCell(row), look: isOnTop(verdicts, label, spec) ? 'first' : 'other' } : cell('');
      },
    };
  });
  const best = [...rows].sort((a, b) => orientedScore(b) - orientedScore(a));
  const labels = [...new Set(best.map(({ label }) => label))];
  return table([{ title: '', cell: (label) => cell(label) }, ...columns], labels, 'overall');
}

function meanCell({ score, difference }: OverallRow): Cell {
  const interval = score.interval ? [formatInterval(score.interval)] : [];
  const against = difference ? [`${formatSigned(difference.mean)}, ${formatAdjustedP(difference.pHolm)}`] : [];
  return { ...cell(formatMetric(score.mean), ...interval, ...against), brief: against[0] ?? '' };
}

/** Every pair of arms of a contest, the smallest p first; or a sentence if none is reliably different or equivalent. */
export function pairBlocks({ pairs, budget }: Contest): Block[] {
  if (pairs.length === 0) return [];
  const title = heading(budget.requested === null ? 'Pairs' : `Pairs at ${budget.spec}`, 3);
  const nothing = nothingDiffers(pairs);
  if (nothing !== null) return [title, paragraph(nothing)];
  const bySmallestP = [...pairs].sort((x, y) => x.p - y.p);
  return [
    title,
    note('The first arm minus the second; p is adjusted by Holm over the pairs of this table.'),
    table(PAIR_COLUMNS, bySmallestP, 'matrix'),
  ];
}

const PAIR_COLUMNS: readonly Column<Comparison>[] = [
  { title: 'arm', cell: ({ a }) => cell(a) },
  { title: 'minus', cell: ({ b }) => cell(b) },
  {
    title: 'difference',
    cell: ({ mean, interval }) =>
      cell(formatSigned(mean), ...(interval ? [formatInterval(interval, formatSigned)] : [])),
  },
  { title: 'p', cell: ({ p }) => cell(formatPlainP(p)) },
  { title: 'adjusted p', cell: ({ pHolm }) => cell(formatPlainP(pHolm)) },
  { title: 'conclusion', cell: (pair) => cell(conclusionOf(pair)) },
];

/** A sentence for pairs of which none is reliably different or equivalent; null if one is. */
function nothingDiffers(pairs: readonly Comparison[]): string | null {
  if (pairs.some((pair) => pair.pHolm < LEVEL || isEquivalent(pair))) return null;
  const closest = [...pairs].sort((x, y) => x.p - y.p)[0];
  if (!closest) return null;
  const ends = pairs.flatMap(({ interval }) => (interval ? [Math.abs(interval.low), Math.abs(interval.high)] : []));
  const { a, b, mean, p, pHolm } = closest;
  const which =
    pairs.length === 1
      ? 'The only pair does not differ significantly'
      : `None of the ${pairs.length} pairs differs significantly`;
  const bound =
    ends.length === 0 ? '' : ` By the 95 % intervals, a difference may be up to ${formatMetric(Math.max(...ends))}.`;
  return `${which} after correction. The smallest p belongs to ${a} minus ${b}: ${formatSigned(mean)}, p ${formatPlainP(p)}, adjusted ${formatPlainP(pHolm)}.${bound}`;
}

/** Whether a pair is shown to be equivalent within the margin. */
function isEquivalent({ equivalence }: Comparison): boolean {
  return equivalence !== null && equivalence.pHolm <= LEVEL;
}

function conclusionOf(pair: Comparison): string {
  const { a, b, mean, pHolm, lowerIsBetter } = pair;
  const better = pHolm < LEVEL ? [`${mean > 0 === lowerIsBetter ? b : a} is better`] : [];
  return [...better, ...(isEquivalent(pair) ? ['equivalent'] : [])].join(', ');
}
