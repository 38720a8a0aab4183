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
import { orientedScore, type Difference, type OverallRow, type SummaryRow, comparisonOf } from './statistics/rows.js';
import { isOnTop, type Verdict } from './verdict.js';
import type { Contest } from './contest.js';
import { LEVEL } from './statistics/equivalence.js';

/** Up to this many rows are shown as cards on a phone; more are a scrollable table. */
const MAX_CARDS = 12;

/** The results on a task, by budget. */
export function resultsTable(panel: Panel, reference: string, verdicts: readonly Verdict[]): Table {
  const isTop = ({ label, budget }: SummaryRow): boolean => isOnTop(verdicts, label, budget.spec);
  return rowsTable(panel, columnsFor(panel, reference, isTop));
}

/** The times and the memory of the same rows. */
export function timesTable(panel: Panel): Table {
  return rowsTable(panel, [
    { title: 'method', cell: ({ label }) => cell(label) },
    { title: 'time per trial', cell: ({ time }) => cell(formatDuration(time.totalSeconds)) },
    { title: 'median step', cell: ({ time }) => cell(formatMilliseconds(time.stepMedianMs)) },
    { title: 'peak memory of the process', cell: ({ peakRssBytes }) => cell(formatMebibytes(peakRssBytes)) },
  ]);
}

function rowsTable({ budgets, entries }: Panel, columns: readonly Column<SummaryRow>[]): Table {
  const groups = budgets.map((group) => ({
    ...(group.requested === null ? {} : { title: budgetTitle(group) }),
    suffix: suffixOf(group),
    rows: group.entries.map(({ row }) => row),
  }));
  return groupedTable(columns, groups, entries.length > MAX_CARDS ? 'results' : 'results cards');
}

/** A budget in words, e.g. `r=4: 57,344 stored parameters`. */
export function budgetTitle({ spec, requested, matchedOn }: Omit<BudgetGroup, 'entries'>): string {
  const size = requested === null ? '' : `${formatCount(requested)} ${matchedOn} parameters`;
  return spec === String(requested) ? size : `${spec}: ${size}`;
}

/** What the name of an arm at a budget ends with. */
function suffixOf({ spec }: Pick<BudgetGroup, 'spec'>): string {
  return spec === 'none' ? '' : ` ${spec}`;
}

/** The columns for rows of one metric, compared with one reference; `isTop` marks the best rows. */
export function columnsFor(
  metric: Parameters<typeof metricTitle>[0],
  reference: string,
  isTop: (row: SummaryRow) => boolean = () => false,
): Column<SummaryRow>[] {
  return [
    {
      title: 'method',
      cell: (row) => ({ ...cell(row.label, ...methodNotes(row)), look: isTop(row) ? 'best' : 'method' }),
    },
    { title: metricTitle(metric), cell: (row) => scoreCell(row, isTop(row)) },
    { title: `against ${reference}`, weight: 6, cell: (row) => referenceCell(row, reference) },
    { title: 'stored', weight: 7, cell: storedCell },
    { title: 'trained at the start', weight: 1, cell: trainedCell },
    { title: 'learning rate', weight: 3, cell: (row) => cell(formatSmall(row.learningRate)) },
    { title: 'time per trial', weight: 4, cell: timeCell },
    { title: 'seeds', weight: 2, cell: ({ seeds }) => cell(String(seeds.length)) },
    { title: 'budget', weight: 5, cell: budgetCell },
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

function timeCell({ time: { totalSeconds, stepMedianMs } }: SummaryRow): Cell {
  return { ...cell(formatDuration(totalSeconds), `${formatMilliseconds(stepMedianMs)} per step`), look: 'time' };
}

function budgetCell({ budget: { requested, met } }: SummaryRow): Cell {
  if (requested === null) return cell('–');
  const main = met ? 'met' : 'missed';
  return { ...cell(main, `of\u00a0${formatCount(requested)}`), look: main };
}

function methodNotes({ baseline, unranked, budget }: SummaryRow): string[] {
  if (baseline) return ['frozen baseline'];
  return unranked !== null && budget.requested !== null ? [`not ranked: ${unranked}`] : [];
}

/** The means over the tasks: on the page with arms down and budgets across, in a text with one row for each. */
export function overallTables(
  rows: readonly OverallRow[],
  onTasks: readonly SummaryRow[],
  reference: string,
  verdicts: readonly Verdict[],
): Block[] {
  const { columns, labels } = matrixOf(rows, verdicts);
  return [
    { ...table(columns, labels, 'overall'), only: 'page' },
    { ...table(overallColumns(rows, onTasks, reference), rows, 'overall'), only: 'text' },
  ];
}

function matrixOf(
  rows: readonly OverallRow[],
  verdicts: readonly Verdict[],
): { readonly columns: Column<string>[]; readonly labels: string[] } {
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
  return {
    columns: [{ title: '', cell: (label) => cell(label) }, ...columns],
    labels: [...new Set(best.map(({ label }) => label))],
  };
}

function meanCell({ score, difference }: OverallRow): Cell {
  return cell(
    formatMetric(score.mean),
    ...(score.interval ? [formatInterval(score.interval)] : []),
    ...(difference ? [`${formatSigned(difference.mean)}, ${formatAdjustedP(difference.pHolm)}`] : []),
  );
}

function overallColumns(
  [first]: readonly OverallRow[],
  rows: readonly SummaryRow[],
  reference: string,
): Column<OverallRow>[] {
  const tasks = first?.tasks ?? [];
  const onTask = ({ model, label, budget }: OverallRow, task: string): SummaryRow | undefined =>
    rows.find(
      (row) => row.model === model && row.task === task && row.label === label && row.budget.spec === budget.spec,
    );
  const secondsOf = (row: OverallRow): number[] => tasks.flatMap((task) => onTask(row, task)?.time.totalSeconds ?? []);
  return [
    { title: 'method', cell: ({ label, budget }) => cell(label + suffixOf(budget)) },
    { title: 'mean', cell: overallScore },
    { title: `against ${reference}`, weight: 9, cell: (row) => overallDifference(row, reference) },
    ...tasks.map((task, index): Column<OverallRow> => ({
      ...{ weight: 6 - index / tasks.length, title: task },
      cell: (row) => cell(formatMetric(onTask(row, task)?.score.mean ?? null)),
    })),
    { title: 'stored', weight: 8, cell: ({ stored }) => cell(formatCount(stored)) },
    { title: 'time per trial', weight: 4, cell: (row) => cell(formatDuration(meanOf(secondsOf(row)))) },
    {
      ...{ title: 'budget', weight: 5 },
      cell: ({ budget: { requested, met } }) => cell(requested === null ? '–' : met ? 'met' : 'missed'),
    },
  ];
}

function overallScore({ score: { mean, interval } }: OverallRow): Cell {
  const main = formatMetric(mean);
  return interval ? { ...cell(main, formatInterval(interval)), brief: formatInterval(interval) } : cell(main);
}

function overallDifference({ label, difference }: OverallRow, reference: string): Cell {
  if (label === reference) return cell('reference');
  if (!difference) return cell('–');
  const brief = formatAdjustedP(difference.pHolm);
  return { ...cell(formatSigned(difference.mean), `${formatP(difference.p)}, ${brief}`), brief };
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/**
 * The pairs of a contest: on the page all of them, in a text those with p < 0.05 or equivalence; or a sentence if no
 * pair differs reliably.
 */
export function pairBlocks({ pairs, budget, arms }: Contest): Block[] {
  if (pairs.length === 0) return [];
  const title = heading(budget.requested === null ? 'Pairs' : `Pairs at ${budget.spec}`, 3);
  const nothing = nothingDiffers(pairs);
  if (nothing !== null) return [title, paragraph(nothing)];
  const paired = arms.filter(({ label }) => pairs.some(({ a, b }) => a === label || b === label));
  const labels = paired.map(({ label }) => label);
  const shown = pairs.filter((pair) => pair.p < LEVEL || isEquivalent(pair));
  return [
    title,
    note(caption(pairs), 'page'),
    { ...table(matrixColumns(labels, pairs), labels, 'matrix'), only: 'page' },
    note(`Pairs of arms with p < ${LEVEL} or equivalent, ${shown.length} of ${pairs.length}:`, 'text'),
    { ...table(LIST_COLUMNS, shown, 'pairs'), only: 'text' },
  ];
}

const LIST_COLUMNS: readonly Column<Comparison>[] = [
  { title: 'arm', cell: ({ a }) => cell(a) },
  { title: 'minus', cell: ({ b }) => cell(b) },
  { title: 'difference', cell: ({ mean }) => cell(formatSigned(mean)) },
  { title: 'p', cell: ({ p }) => cell(formatPlainP(p)) },
  { title: 'adjusted p', cell: ({ pHolm }) => cell(formatPlainP(pHolm)) },
  { title: 'equivalent', cell: (pair) => cell(isEquivalent(pair) ? 'yes' : '') },
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

/** Explains how to read the table. */
function caption(pairs: readonly Comparison[]): string {
  const equivalent = pairs.some(isEquivalent) ? ' ≈ marks a pair that is equivalent within the margin.' : '';
  return `Row minus column, the p of this difference, and p adjusted by Holm over the pairs of this table. Blue where the row is better and orange where the column is: pale where p is below ${LEVEL}, full where the adjusted p is, too.${equivalent}`;
}

/**
 * Every pair of arms: the mean difference, row minus column, above p and the Holm-adjusted p. The colour shows the
 * direction, like the sign, and the strength of evidence, like the p-values.
 */
function matrixColumns(labels: readonly string[], pairs: readonly Comparison[]): Column<string>[] {
  const columns = labels.map((column) => ({
    title: column,
    cell: (row: string) => pairCell(comparisonOf(pairs, row, column)),
  }));
  return [{ title: '', cell: (label) => cell(label) }, ...columns];
}

function pairCell(pair: Comparison | undefined): Cell {
  if (!pair) return { ...cell('–'), look: 'none' };
  const main = `${isEquivalent(pair) ? '≈ ' : ''}${formatSigned(pair.mean)}`;
  return { ...cell(main, `p ${formatPlainP(pair.p)}`, `adj. ${formatPlainP(pair.pHolm)}`), look: outcome(pair) };
}

function outcome({ mean, p, pHolm, lowerIsBetter }: Comparison): string {
  const strength = [p, pHolm].filter((each) => each < LEVEL).length;
  if (strength === 0) return 'open';
  return `${mean > 0 === lowerIsBetter ? 'worse' : 'better'}-${strength}`;
}
