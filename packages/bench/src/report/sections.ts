import type { DoneTrial, TrialResult } from '@peftjs/cli/results';
import { details, facts, figure, findings, grid, heading, list, note, paragraph, type Block } from './blocks.js';
import { hasBands, lossChart, metricChart, parameterChart } from './charts/curves.js';
import { WIDE, WIDTH } from './charts/draw.js';
import { gateFigures, rankFigures } from './charts/ranks.js';
import { forestChart, rangeOf, scoreChart, showsSeeds } from './charts/scores.js';
import {
  panelsOf,
  seriesByLabel,
  seriesOfEntries,
  type BudgetGroup,
  type Entry,
  type Panel,
  configurationsOf,
  protocolOf,
  sourcesOf,
  versionsOf,
} from './contents.js';
import { contestsOf, type Contest } from './contest.js';
import { formatSmall } from '@peftjs/cli/format';
import { pairBlocks, budgetTitle, overallTable, resultsTable } from './results.js';
import { stageFigures } from './stages.js';
import { stabilityBlocks } from './stability.js';
import { grouped } from './statistics/comparisons.js';
import { meanMetric } from './statistics/rows.js';
import type { Summary } from './statistics/summary.js';
import { tuningBlocks } from './tuning.js';
import { twoRunsBlocks } from './two-runs.js';
import { mainVerdicts, type Verdict } from './verdict.js';

/** The report below its verdict, the same for the page and in Markdown. */
export function reportBlocks(results: readonly TrialResult[], summary: Summary): Block[] {
  const tasks = panelsOf(results, summary).flatMap((panel) => taskBlocks(panel, summary));
  const stability = stabilityBlocks(results, summary);
  const done = results.filter((result) => result.status === 'done');
  return [
    ...(summary.against ? twoRunsBlocks(summary.against) : []),
    ...overallBlocks(summary),
    ...(summary.overall.length > 0 ? [...stability, ...tasks] : [...tasks, ...stability]),
    ...tuningBlocks(results),
    ...protocolBlocks(done, summary),
  ];
}

/** The part of the summary about one task of a model, or about all its tasks. */
interface Scope {
  /** The contests. */
  readonly contests: readonly Contest[];
  /** The verdicts, one per contest. */
  readonly verdicts: readonly Verdict[];
  /** Whether these are the verdicts of the whole run. */
  readonly isMain: boolean;
}

function scopeOf(summary: Summary, model: string, task: string | null): Scope {
  const isHere = (each: { readonly model: string; readonly task: string | null }): boolean =>
    each.model === model && each.task === task;
  const verdicts = summary.verdicts.filter(isHere);
  const main = mainVerdicts(summary.verdicts);
  return {
    contests: contestsOf(summary).filter(isHere),
    verdicts,
    isMain: verdicts.every((verdict) => main.includes(verdict)),
  };
}

/** Explains a chart of scores by size for several budgets. */
const FRONT =
  'The steps join the best mean at each size, significant or not; arms that are reliably worse than the best at their budget are faint.';

/** The section of one task: its table and its charts. */
function taskBlocks(panel: Panel, summary: Summary): Block[] {
  const scope = scopeOf(summary, panel.model, panel.task);
  const budgeted = panel.budgets.filter(({ requested }) => requested !== null);
  const groups = budgeted.length > 0 ? budgeted : panel.budgets;
  const stages = stageFigures(panel);
  const rows = panel.entries.map(({ row }) => row);
  const { metric, title } = panel;
  const seriesOf = seriesByLabel(summary.rows);
  const about = { subject: `${metric} on ${title}`, metric: panel, seriesOf, verdicts: scope.verdicts };
  return [
    heading(panel.title),
    ...taskVerdict(scope),
    details('Every arm', [resultsTable(panel, summary.reference, scope.verdicts)], scope.isMain),
    figure('Quality against size', scoreCaption(panel), (size) => scoreChart(rows, about, size), { size: WIDE }),
    ...forestFigures(scope, summary),
    ...(stages.length > 0 ? [grid(stages)] : []),
    details('Statistical detail', scope.contests.flatMap(pairBlocks)),
    ...groups.map((group) => details(`Training at ${budgetTitle(group)}`, [grid(budgetFigures(panel, group))])),
  ];
}

/** The findings on a task, beyond those over all tasks. */
function taskVerdict({ verdicts, isMain }: Scope): Block[] {
  if (isMain) return [];
  const isOpen = verdicts.every(
    ({ worse, equivalent, aboveBaseline }) => worse.length + equivalent.length + aboveBaseline.length === 0,
  );
  return isOpen
    ? [paragraph('On this task alone no method is told from another, at any budget.')]
    : [findings(verdicts.map(({ sentences }) => sentences))];
}

/** The sections over all tasks, for each model with several tasks. */
function overallBlocks(summary: Summary): Block[] {
  const { rows: all, overall, reference } = summary;
  const seriesOf = seriesByLabel(all);
  const ofModels = grouped(overall, ({ model }) => model);
  return ofModels.flatMap((rows) => {
    const [first] = rows;
    const { model, tasks, lowerIsBetter } = first;
    const scope = scopeOf(summary, model, null);
    const about = {
      ...{ subject: `Mean over the tasks with ${model}`, seriesOf, verdicts: scope.verdicts },
      metric: { metric: `mean ${meanMetric(first)}`, lowerIsBetter },
    };
    const size = figure(
      'Mean quality against size',
      `Mean over the tasks with its 95 % interval. ${FRONT}`,
      (each) => scoreChart(rows, about, each),
      { size: WIDE },
    );
    const means = overallTable(rows, scope.verdicts);
    const forests = forestFigures(scope, summary);
    const how = `The mean of ${tasks.length} tasks with equal weights: ${tasks.join(', ')}. With it its interval, and the difference to ${reference} with p adjusted over the pairs of the budget.`;
    return [
      heading(ofModels.length > 1 ? `Over all tasks · ${model}` : 'Over all tasks'),
      note(how),
      ...(scope.contests.length === 1 ? [grid([means, ...forests], 'pair'), size] : [size, means, ...forests]),
      details('Statistical detail', scope.contests.flatMap(pairBlocks)),
    ];
  });
}

/** The width in px of which four charts fit side by side on a desktop screen. */
const SMALL_WIDTH = 300;
/** The width of a chart next to the table of the only budget, in px. */
const FOREST_BESIDE = 820;

/** The arms of every budget in one chart each, side by side; for a single budget, one wide chart. */
function forestFigures({ contests, verdicts }: Scope, { rows, margin }: Summary): Block[] {
  const seriesOf = seriesByLabel(rows);
  const domain = rangeOf(contests.flatMap(({ arms }) => arms.map(({ score }) => score)));
  const shown = contests.flatMap((contest, index) =>
    contest.arms.length > 0 ? [{ contest, verdict: verdicts[index] as Verdict }] : [],
  );
  const figures = shown.map(({ contest, verdict }) => {
    const title = contest.budget.requested === null ? 'Scores' : `Scores at ${contest.budget.spec}`;
    const isWide = shown.length === 1;
    return figure(
      title,
      forestCaption(verdict, margin),
      ({ width }) => {
        const own = isWide ? width : shown.length > 3 ? SMALL_WIDTH : WIDTH;
        return forestChart(contest, verdict, { seriesOf, domain, width: own });
      },
      isWide ? { size: { width: FOREST_BESIDE, height: 0 } } : {},
    );
  });
  return shown.length === 1 ? figures : [grid(figures, shown.length > 3 ? 'grid small' : 'grid')];
}

function forestCaption({ equivalent, worse, best }: Verdict, margin: number | null): string {
  return [
    'Mean and 95 % interval.',
    equivalent.length === 0 ? '' : `On one band (≈): equivalent within ${formatSmall(margin ?? NaN)}.`,
    worse.length === 0 ? '' : `Faint: reliably worse than ${best ?? ''}.`,
  ].join(' ');
}

function budgetFigures(panel: Panel, group: BudgetGroup): Block[] {
  const unbudgeted = panel.entries.filter(({ row }) => row.budget.requested === null);
  const entries = group.requested === null ? group.entries : [...unbudgeted, ...group.entries];
  const adapted = group.entries.filter(({ row }) => !row.baseline);
  const title = `${panel.title}, ${group.spec}`;
  return [...curveFigures(title, entries), ...sizeFigures(title, adapted, group), ...rankFigures(title, adapted)];
}

function curveFigures(title: string, entries: readonly Entry[]): Block[] {
  const series = seriesOfEntries(entries);
  const range = hasBands(series) ? '; the band is their range' : '';
  const loss = figure('Training loss', `Mean over seeds${range}.`, () => lossChart(title, entries), { series });
  if (!hasEvaluations(entries)) return [loss];
  const caption = `What checkpoints are selected by, mean over seeds${range}.`;
  return [loss, figure('On the selection split', caption, () => metricChart(title, entries), { series })];
}

/** Stored parameters over time, and live ranks where they change. */
function sizeFigures(title: string, adapted: readonly Entry[], group: BudgetGroup): Block[] {
  if (adapted.length === 0) return [];
  const changing = adapted.filter(({ trials }) => trials.some(({ history }) => isUneven(history)));
  const shown = changing.length > 0 ? changing : adapted;
  const rest = changing.length > 0 && changing.length < adapted.length ? ' The others store the same throughout.' : '';
  const caption = `What the adapter would store at each step.${rest}`;
  const series = seriesOfEntries(shown);
  return [
    figure('Parameters over time', caption, () => parameterChart(title, shown, group), { series }),
    ...gateFigures(title, adapted),
  ];
}

function isUneven(history: readonly { readonly stored: number }[]): boolean {
  return history.some(({ stored }) => stored !== history[0]?.stored);
}

function scoreCaption(panel: Panel): string {
  const { baseline, budgets, lowerIsBetter } = panel;
  const several = budgets.filter(({ requested }) => requested !== null).length > 1;
  return [
    `The mean and its 95 % interval${showsSeeds(panel.entries.map(({ row }) => row)) ? '; small: single seeds' : ''}.`,
    several ? FRONT : 'With one budget, the arms are drawn side by side.',
    baseline
      ? `Dotted: the frozen model${baseline.row.parameters.trainableAtStart > 0 ? ' with a trained head' : ''}.`
      : '',
    lowerIsBetter ? 'Less is better.' : '',
  ].join(' ');
}

function hasEvaluations(entries: readonly Entry[]): boolean {
  return entries.some(({ trials, row }) =>
    trials.some(({ history }) => history.some(({ metrics }) => metrics && row.metric in metrics)),
  );
}

/** The notes, settings and data behind the numbers. */
function protocolBlocks(done: readonly DoneTrial[], { notes, failed }: Summary): Block[] {
  const failures = failed.map(({ arm, task, budget, seed, message }) => ({
    term: `${arm} on ${task}, ${budget}, seed ${seed}`,
    value: message,
  }));
  return [
    heading('Limitations'),
    list([
      ...notes,
      'Checkpoints were selected on separate rows; scores are from the reported rows. They say how these methods do on these data, not on others.',
      'Times depend on the machine and on what ran beside a trial: compare them within this report only.',
    ]),
    ...(failures.length > 0 ? [heading('Failed trials'), facts(failures)] : []),
    heading('Protocol'),
    facts(protocolOf(done)),
    details('Configuration of every method', [facts(configurationsOf(done))]),
    details('Versions', [facts(versionsOf(done))]),
    heading('Data'),
    facts(sourcesOf(done)),
  ];
}
