import { hasBands, lossChart, metricChart, parameterChart } from './charts/curves.js';
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
import { formatAdjustedP, formatCount, formatInterval, formatMetric, formatPlainP, formatSigned } from './format.js';
import { figure, grid } from './charts/draw.js';
import { disclosure, html, name, type Markup } from './html.js';
import { stageFigures } from './stages.js';
import { grouped, type Comparison } from './statistics/comparisons.js';
import { meritOf, reversed, type OverallRow } from './statistics/rows.js';
import type { Summary } from './statistics/summary.js';

/** On a phone up to this many rows are shown as a card each; more of them stay a table that scrolls. */
const MOST_CARDS = 12;

/** Everything about one task: its table and its charts. */
export async function taskSection(panel: Panel, { reference, comparisons }: Summary): Promise<Markup> {
  const budgeted = panel.budgets.filter(({ requested }) => requested !== null);
  const groups = budgeted.length > 0 ? budgeted : panel.budgets;
  const figures = await Promise.all([
    figure('Quality against size', scoreCaption(panel), [], scoreChart(panel)),
    ...timeFigures(panel),
  ]);
  const stages = await stageFigures(panel);
  const parts = await Promise.all(groups.map((group) => budgetPart(panel, group, comparisons)));
  return html`<section>
    <h2>${name(panel.title)}</h2>
    <div class="card scroll">${resultsTable(panel, columnsFor(panel, reference))}</div>
    ${grid([...figures, ...stages])}
    ${groups.map((group, index) => disclosure(budgetTitle(group), parts[index] as Markup, index === groups.length - 1))}
  </section>`;
}

/** Everything about one budget: who differs, and how they trained. */
async function budgetPart(panel: Panel, group: BudgetGroup, comparisons: readonly Comparison[]): Promise<Markup> {
  const row = group.entries[0].row;
  const pairs = comparisons.filter(
    ({ model, task, budget }) => model === row.model && task === row.task && budget === group.spec,
  );
  const labels = group.entries.map((entry) => entry.row.label);
  return html`${
    pairs.length === 0
      ? null
      : html`<div class="card">
          <p class="note">${significanceCaption(false)}</p>
          ${significanceTable(labels, pairs)}
        </div>`
  }${grid(await budgetFigures(panel, group))}`;
}

function resultsTable(panel: Panel, columns: readonly Column[]): Markup {
  return html`<table class="${panel.entries.length > MOST_CARDS ? 'results' : 'results cards'}">
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
              html`<tr class="${row.rank === 1 ? 'best' : 'row'}">
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
      ? 'The steps join the best mean at each size; what is under them is faded.'
      : 'At one budget the arms stand side by side.',
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

/** The mean over the tasks of each model that has several. */
export async function overallSections({ rows: all, overall, comparisons, reference }: Summary): Promise<Markup[]> {
  const seriesOf = seriesByLabel(all);
  const ofModels = grouped(overall, ({ model }) => model);
  return Promise.all(
    ofModels.map(async (rows) => {
      const [{ model, tasks }] = rows;
      const title = ofModels.length > 1 ? `Over all tasks · ${model}` : 'Over all tasks';
      const pairs = comparisons.filter((each) => each.task === null && each.model === model);
      const budgets = grouped(
        rows.filter(({ budget }) => budget.requested !== null),
        ({ budget }) => budget.spec,
      );
      return html`<section>
        <h2>${name(title)}</h2>
        <p class="note">
          The mean of ${tasks.length} tasks, each counting alike: ${name(tasks.join(', '))}. Below it, its interval, and
          the difference to ${name(reference)} with p adjusted over the pairs of the budget.
        </p>
        <div class="pair">
          <div class="card scroll">${overallTable(rows)}</div>
          ${await figure('Mean quality against size', CHART_CAPTION, [], overallChart(rows, seriesOf))}
        </div>
        ${budgets.map(([first, ...others], index) => {
          const labels = [first, ...others].map(({ label }) => label);
          const ofBudget = pairs.filter(({ budget }) => budget === first.budget.spec);
          const content = html`<div class="card">
            <p class="note">${significanceCaption(true)}</p>
            ${significanceTable(labels, ofBudget)}
          </div>`;
          return ofBudget.length === 0
            ? null
            : disclosure(`Who differs at ${first.budget.spec}`, content, index === budgets.length - 1);
        })}
      </section>`;
    }),
  );
}

const CHART_CAPTION =
  'Mean over the tasks with its 95 % interval. The steps join the best mean at each size; what is under them is faded.';

/** Arms down, budgets across. */
function overallTable(rows: readonly OverallRow[]): Markup {
  const [free, asked] = [true, false].map((isFree) =>
    rows.filter(({ budget }) => (budget.requested === null) === isFree),
  );
  const budgets = grouped([...(asked ?? []), ...(free ?? [])], ({ budget }) => budget.spec).map(
    ([{ budget }]) => budget,
  );
  const labels = [...new Set([...rows].sort((a, b) => meritOf(b) - meritOf(a)).map(({ label }) => label))];
  const rowOf = (label: string, spec: string): OverallRow | undefined =>
    rows.find((row) => row.label === label && row.budget.spec === spec);
  return html`<table class="overall">
    <thead>
      <tr>
        <td></td>
        ${budgets.map(
          ({ spec, requested, matchedOn }) =>
            html`<th scope="col">
              ${name(requested === null ? 'no budget' : spec)}${
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
            ${budgets.map(({ spec }) => overallCell(rowOf(label, spec)))}
          </tr>`,
      )}
    </tbody>
  </table>`;
}

function overallCell(row: OverallRow | undefined): Markup {
  if (!row) return html`<td></td>`;
  const { score, difference, rank } = row;
  return html`<td class="${rank === 1 ? 'first' : 'other'}">
    ${formatMetric(score.mean)}${score.interval ? html` <small>${formatInterval(score.interval)}</small>` : null}${
      difference ? html`<small>${formatSigned(difference.mean)}, ${formatAdjustedP(difference.pHolm)}</small>` : null
    }
  </td>`;
}

/** What p must be below for a pair to be called different. */
const LEVEL = 0.05;

/**
 * Every pair of arms in a table: the mean difference, row minus column, over p and its Holm-adjusted form. The colour
 * says which way, as the sign does, and how far to trust it, as both p do.
 */
function significanceTable(labels: readonly string[], comparisons: readonly Comparison[]): Markup {
  return html`<div class="scroll">
    <table class="matrix">
      <thead>
        <tr>
          <td></td>
          ${labels.map((label) => html`<th scope="col">${name(label)}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${labels.map(
          (row) =>
            html`<tr>
              <th scope="row">${name(row)}</th>
              ${labels.map((column) => pairCell(comparisonOf(comparisons, row, column)))}
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

/** How to read the table. */
function significanceCaption(isOverTasks: boolean): string {
  const family = isOverTasks ? 'the pairs of this table' : 'the tasks';
  return `Row minus column, the p of this difference, and p adjusted by Holm over ${family}. Blue where the row is better and orange where the column is: pale where p is below ${LEVEL}, full where the adjusted p is, too.`;
}

function comparisonOf(comparisons: readonly Comparison[], row: string, column: string): Comparison | undefined {
  const found = comparisons.find(({ a, b }) => (a === row && b === column) || (a === column && b === row));
  return found && found.a !== row ? reversed(found) : found;
}

function pairCell(comparison: Comparison | undefined): Markup {
  if (!comparison) return html`<td class="none">–</td>`;
  const { mean, p, pHolm } = comparison;
  return html`<td class="${verdict(comparison)}">
    ${formatSigned(mean)}<small>p ${formatPlainP(p)}</small><small>adj. ${formatPlainP(pHolm)}</small>
  </td>`;
}

function verdict({ mean, p, pHolm, lowerIsBetter }: Comparison): string {
  const strength = [p, pHolm].filter((each) => each < LEVEL).length;
  if (strength === 0) return 'open';
  return `${mean > 0 === lowerIsBetter ? 'worse' : 'better'}-${strength}`;
}
