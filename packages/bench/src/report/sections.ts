import { hasBands, lossChart, metricChart, parameterChart } from './charts/curves.js';
import { figure, grid, WIDTH, wideFigure, type Chart } from './charts/draw.js';
import { domainOf, forestChart } from './charts/forest.js';
import { gateCharts, rankCharts } from './charts/ranks.js';
import { overallChart, scoreChart, showsSeeds } from './charts/scores.js';
import { memoryChart, stepTimeChart, trialTimeChart } from './charts/times.js';
import {
  columnsFor,
  seriesByLabel,
  seriesOfEntries,
  type BudgetGroup,
  type Cell,
  type Column,
  type Entry,
  type Panel,
} from './contents.js';
import { contestsOf, type Contest } from './contest.js';
import { formatAdjustedP, formatCount, formatInterval, formatMetric, formatSigned, formatSmall } from './format.js';
import { disclosure, html, name, type Markup } from './html.js';
import { sizingFigures } from './sizing.js';
import { stageFigures } from './stages.js';
import { pairsPart } from './pairs.js';
import { grouped } from './statistics/comparisons.js';
import { orientedScore, type OverallRow, type SummaryRow } from './statistics/rows.js';
import type { Summary } from './statistics/summary.js';
import { isOnTop, mainVerdicts, type Verdict } from './verdict.js';

/** Up to this many rows are shown as cards on a phone; more are a scrollable table. */
const MAX_CARDS = 12;

/** The section of one task: its table and its charts. */
export async function taskSection(panel: Panel, summary: Summary): Promise<Markup> {
  const scope = scopeOf(summary, panel.model, panel.task);
  const budgeted = panel.budgets.filter(({ requested }) => requested !== null);
  const groups = budgeted.length > 0 ? budgeted : panel.budgets;
  const size = await wideFigure('Quality against size', scoreCaption(panel), (each) =>
    scoreChart(panel, scope.verdicts, each),
  );
  const table = resultsTable(panel, columnsFor(panel, summary.reference), scope.verdicts);
  const stages = [...(await stageFigures(panel)), ...(await sizingFigures(panel))];
  const times = await Promise.all(timeFigures(panel));
  const parts = await Promise.all(groups.map(async (group) => grid(await budgetFigures(panel, group))));
  return html`<section>
    <h2>${name(panel.title)}</h2>
    ${taskVerdict(scope)} ${disclosure('Every arm', html`<div class="card scroll">${table}</div>`, scope.isMain)}
    ${size}${await forestFigures(scope, summary)}${stages.length > 0 ? grid(stages) : null}
    ${disclosure('Statistical detail', html`${scope.contests.map(pairsPart)}`, false)}
    ${disclosure('Time and memory', grid(times), false)}
    ${groups.map((group, index) => disclosure(`Training at ${budgetTitle(group)}`, parts[index] as Markup, false))}
  </section>`;
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

/** The findings, in paragraphs that start with the most important sentence. */
export function verdictCard(paragraphs: readonly (readonly string[])[]): Markup {
  return html`<div class="card short">
    ${paragraphs.map(
      ([first = '', ...others]) => html`<p><strong>${name(first)}</strong> ${name(others.join(' '))}</p>`,
    )}
  </div>`;
}

/** The findings on a task, beyond those over all tasks. */
function taskVerdict({ verdicts, isMain }: Scope): Markup | null {
  if (isMain) return null;
  const isOpen = verdicts.every(
    ({ worse, equivalent, aboveBaseline }) => worse.length + equivalent.length + aboveBaseline.length === 0,
  );
  return isOpen
    ? html`<p>On this task alone no method is told from another, at any budget.</p>`
    : verdictCard(verdicts.map(({ sentences }) => sentences));
}

/** The arms of every budget in one chart each, side by side; for a single budget, one wide chart. */
async function forestFigures({ contests, verdicts }: Scope, { rows, margin }: Summary): Promise<Markup> {
  const seriesOf = seriesByLabel(rows);
  const domain = domainOf(contests);
  const shown = contests.flatMap((contest, index) => {
    if (contest.arms.length === 0) return [];
    const verdict = verdicts[index] as Verdict;
    const title = contest.budget.requested === null ? 'Scores' : `Scores at ${contest.budget.spec}`;
    const chart = (width: number): Chart => forestChart(contest, verdict, { seriesOf, domain, width });
    return [{ title, caption: forestCaption(verdict, margin), chart }];
  });
  const [only] = shown;
  if (only && shown.length === 1) {
    return wideFigure(only.title, only.caption, ({ width }) => only.chart(width), { width: FOREST_BESIDE, height: 0 });
  }
  const isMany = shown.length > 3;
  const width = isMany ? SMALL_WIDTH : WIDTH;
  const figures = await Promise.all(shown.map(({ title, caption, chart }) => figure(title, caption, [], chart(width))));
  return isMany ? html`<div class="grid small">${figures}</div>` : grid(figures);
}

/** The width in px of which four charts fit side by side on a desktop screen. */
const SMALL_WIDTH = 300;
/** The width of a chart next to the table of the only budget, in px. */
const FOREST_BESIDE = 820;

function forestCaption({ equivalent, worse, best }: Verdict, margin: number | null): string {
  return [
    'Mean and 95 % interval.',
    equivalent.length === 0 ? '' : `On one band (≈): equivalent within ${formatSmall(margin ?? NaN)}.`,
    worse.length === 0 ? '' : `Faint: reliably worse than ${best ?? ''}.`,
  ].join(' ');
}

function resultsTable(panel: Panel, columns: readonly Column[], verdicts: readonly Verdict[]): Markup {
  const isTop = ({ label, budget }: SummaryRow): boolean => isOnTop(verdicts, label, budget.spec);
  return html`<table class="${panel.entries.length > MAX_CARDS ? 'results' : 'results cards'}">
    <thead>
      <tr>
        ${columns.map(({ title }) => html`<th scope="col">${name(title)}</th>`)}
      </tr>
    </thead>
    ${panel.budgets.map(
      (group) =>
        html`<tbody>
          ${
            group.requested === null
              ? null
              : html`<tr>
                  <th scope="rowgroup" colspan="${columns.length}">${name(budgetTitle(group))}</th>
                </tr>`
          }
          ${group.entries.map(
            ({ row }) =>
              html`<tr class="${isTop(row) ? 'best' : 'row'}">
                ${columns.map((column) => tableCell(column, column.cell(row)))}
              </tr>`,
          )}
        </tbody>`,
    )}
  </table>`;
}

function tableCell({ key, title }: Column, { main, detail }: Cell): Markup {
  const kind = key === 'budget' && main !== '–' ? main : key;
  return html`<td class="${kind}" data-label="${title}">
    ${name(main)}${detail === undefined ? null : html`<small>${detail}</small>`}
  </td>`;
}

function timeFigures(panel: Panel): Promise<Markup>[] {
  const range = panel.budgets.length > 2 ? '; the line spans the budgets' : '';
  const [trial, step, memory] = [
    `Training, evaluation and compilation, mean over seeds${range}.`,
    `Median of a trial, mean over seeds${range}.`,
    `Of the process that ran the trial, what earlier ones left there included${range}.`,
  ];
  return [
    figure('Time of a trial', trial, [], trialTimeChart(panel)),
    figure('Time of a step', step, [], stepTimeChart(panel)),
    figure('Peak memory', memory, [], memoryChart(panel)),
  ];
}

async function budgetFigures(panel: Panel, group: BudgetGroup): Promise<Markup[]> {
  const unbudgeted = panel.entries.filter(({ row }) => row.budget.requested === null);
  const entries = group.requested === null ? group.entries : [...unbudgeted, ...group.entries];
  const adapted = group.entries.filter(({ row }) => !row.baseline);
  const title = `${panel.title}, ${group.spec}`;
  return Promise.all([
    ...curveFigures(title, entries),
    ...sizeFigures(title, adapted, group),
    ...rankCharts(title, adapted).map(({ about, caption, chart }) =>
      figure(about, `At the selected checkpoint, mean over seeds: ${caption}.`, [], chart),
    ),
  ]);
}

function curveFigures(title: string, entries: readonly Entry[]): Promise<Markup>[] {
  const series = seriesOfEntries(entries);
  const range = hasBands(series) ? '; the band is their range' : '';
  const loss = figure('Training loss', `Mean over seeds${range}.`, series, lossChart(title, entries));
  if (!hasEvaluations(entries)) return [loss];
  const caption = `What checkpoints are selected by, mean over seeds${range}.`;
  return [loss, figure('On the selection split', caption, series, metricChart(title, entries))];
}

/** Stored parameters over time, and live ranks where they change. */
function sizeFigures(title: string, adapted: readonly Entry[], group: BudgetGroup): Promise<Markup>[] {
  if (adapted.length === 0) return [];
  const changing = adapted.filter(({ trials }) => trials.some(({ history }) => isUneven(history)));
  const shown = changing.length > 0 ? changing : adapted;
  const rest = changing.length > 0 && changing.length < adapted.length ? ' The others store the same throughout.' : '';
  const caption = `What the adapter would store at each step.${rest}`;
  return [
    figure('Parameters over time', caption, seriesOfEntries(shown), parameterChart(title, shown, group)),
    ...gateCharts(title, adapted).map(({ about, most, chart }) =>
      figure(
        `Live ranks over time: ${about}`,
        `One line per module, mean over seeds: the fainter, the fewer. The strongest has rank ${formatRank(most)}.`,
        [],
        chart,
      ),
    ),
  ];
}

function formatRank(rank: number): string {
  return String(Number(rank.toFixed(1)));
}

function isUneven(history: readonly { readonly stored: number }[]): boolean {
  return history.some(({ stored }) => stored !== history[0]?.stored);
}

function scoreCaption(panel: Panel): string {
  const { baseline, budgets, lowerIsBetter } = panel;
  const several = budgets.filter(({ requested }) => requested !== null).length > 1;
  return [
    `The mean and its 95 % interval${showsSeeds(panel) ? '; small: single seeds' : ''}.`,
    several
      ? 'The steps join the best mean at each size, significant or not; arms that are reliably worse than the best at their budget are faint.'
      : 'With one budget, the arms are drawn side by side.',
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

function budgetTitle({ spec, requested, matchedOn }: BudgetGroup): string {
  const size = requested === null ? '' : `${formatCount(requested)} ${matchedOn} parameters`;
  return spec === String(requested) ? size : `${spec}: ${size}`;
}

/** The sections over all tasks, for each model with several tasks. */
export async function overallSections(summary: Summary): Promise<Markup[]> {
  const { rows: all, overall, reference } = summary;
  const seriesOf = seriesByLabel(all);
  const ofModels = grouped(overall, ({ model }) => model);
  return Promise.all(
    ofModels.map(async (rows) => {
      const [{ model, tasks }] = rows;
      const scope = scopeOf(summary, model, null);
      const title = ofModels.length > 1 ? `Over all tasks · ${model}` : 'Over all tasks';
      const size = await wideFigure('Mean quality against size', CHART_CAPTION, (each) =>
        overallChart(rows, seriesOf, scope.verdicts, each),
      );
      const table = html`<div class="card scroll">${overallTable(rows, scope.verdicts)}</div>`;
      const forests = await forestFigures(scope, summary);
      return html`<section>
        <h2>${name(title)}</h2>
        <p class="note">
          The mean of ${tasks.length} tasks with equal weights: ${name(tasks.join(', '))}. Below it, its interval, and
          the difference to ${name(reference)} with p adjusted over the pairs of the budget.
        </p>
        ${
          scope.contests.length === 1
            ? html`<div class="pair">${table}${forests}</div>
                ${size}`
            : html`${table}${size}${forests}`
        }
        ${disclosure('Statistical detail', html`${scope.contests.map(pairsPart)}`, false)}
      </section>`;
    }),
  );
}

const CHART_CAPTION =
  'Mean over the tasks with its 95 % interval. The steps join the best mean at each size, significant or not; arms that are reliably worse than the best at their budget are faint, and equivalent arms share a band.';

/** A table with arms down and budgets across. */
function overallTable(rows: readonly OverallRow[], verdicts: readonly Verdict[]): Markup {
  const [free, budgeted] = [true, false].map((isFree) =>
    rows.filter(({ budget }) => (budget.requested === null) === isFree),
  );
  const budgets = grouped([...(budgeted ?? []), ...(free ?? [])], ({ budget }) => budget.spec).map(
    ([{ budget }]) => budget,
  );
  const labels = [...new Set([...rows].sort((a, b) => orientedScore(b) - orientedScore(a)).map(({ label }) => label))];
  const rowOf = (label: string, spec: string): OverallRow | undefined =>
    rows.find((row) => row.label === label && row.budget.spec === spec);
  return html`<table class="overall">
    <thead>
      <tr>
        <td></td>
        ${budgets.map(
          ({ spec, requested, matchedOn }) =>
            html`<th scope="col">
              ${name(spec === 'none' ? 'no budget' : spec)}${
                requested === null ? null : html`<small>${formatCount(requested)} ${matchedOn}</small>`
              }
            </th>`,
        )}
      </tr>
    </thead>
    <tbody>
      ${labels.map(
        (label) =>
          html`<tr>
            <th scope="row">${name(label)}</th>
            ${budgets.map(({ spec }) => overallCell(rowOf(label, spec), isOnTop(verdicts, label, spec)))}
          </tr>`,
      )}
    </tbody>
  </table>`;
}

function overallCell(row: OverallRow | undefined, isTop: boolean): Markup {
  if (!row) return html`<td></td>`;
  const { score, difference } = row;
  return html`<td class="${isTop ? 'first' : 'other'}">
    <span>${formatMetric(score.mean)}</span
    >${score.interval ? html` <small>${formatInterval(score.interval)}</small>` : null}${
      difference ? html`<small>${formatSigned(difference.mean)}, ${formatAdjustedP(difference.pHolm)}</small>` : null
    }
  </td>`;
}
