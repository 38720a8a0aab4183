import type { DoneTrial } from '../results/schema.js';
import type { Summary } from '../statistics/summary.js';
import { columnsFor, type Cell, type Column } from './columns.js';
import { seriesOfEntries, type BudgetGroup, type Entry, type Panel, type Series } from './contents.js';
import { lossChart, metricChart, parameterChart } from './charts/curves.js';
import { rankCharts } from './charts/ranks.js';
import { scoreChart, scoreSeries } from './charts/scores.js';
import { renderChart, type Chart } from './charts/svg.js';
import { legend } from './charts/theme.js';
import { stepTimeChart, trialTimeChart } from './charts/times.js';
import { configurationsOf, protocolOf, sourcesOf, versionsOf, type Fact } from './facts.js';
import { formatCount } from './format.js';
import { html, name, type Markup } from './html.js';
import { stageFigures } from './sections/stages.js';

/** Everything about one task: its table and its charts. */
export async function taskSection(panel: Panel, reference: string): Promise<Markup> {
  const budgeted = panel.budgets.filter(({ requested }) => requested !== null);
  const groups = budgeted.length > 0 ? budgeted : panel.budgets;
  const overall = [
    await figure('Quality against size', scoreCaption(panel), scoreSeries(panel), scoreChart(panel)),
    ...(await timeFigures(panel, groups.length === 1)),
    ...(await stageFigures(panel)),
  ];
  const trained = await Promise.all(groups.map((group) => budgetFigures(panel, group)));
  return html`<section>
    <h2>${name(panel.title)}</h2>
    <div class="card scroll">${resultsTable(panel, columnsFor(panel, reference))}</div>
    ${
      groups.length === 1
        ? grid([...overall, ...trained.flat()])
        : [
            grid(overall),
            groups.map(
              (group, index) =>
                html`<h3>${name(budgetTitle(group))}</h3>
                  ${grid(trained[index] ?? [])}`,
            ),
          ]
    }
  </section>`;
}

/** How the numbers came about. */
export function protocolSection(done: readonly DoneTrial[], summary: Summary): Markup {
  return html`<section>
    <h2>What to bear in mind</h2>
    <div class="card">
      <ul class="notes">
        ${summary.notes.map((note) => html`<li>${note}</li>`)}
        <li>
          Checkpoints were selected on a split of their own; the metric is that of the reported split. It says how these
          methods do on these data, not on others.
        </li>
        <li>
          Times are of the machine that ran them, with as many trials side by side as it had room for: compare them
          within this report only.
        </li>
      </ul>
    </div>
    ${failures(summary)}
    <h2>Protocol</h2>
    <div class="card">
      ${factList(protocolOf(done))}
      <details>
        <summary>Configuration of every method</summary>
        ${factList(configurationsOf(done))}
      </details>
      <details>
        <summary>Versions</summary>
        ${factList(versionsOf(done))}
      </details>
    </div>
    <h2>Data</h2>
    <div class="card">
      ${factList(
        sourcesOf(done).map(({ task, source, licence, rows }) => ({
          term: task,
          value: `${source}; licence: ${licence}; rows: ${rows}`,
        })),
      )}
    </div>
  </section>`;
}

function resultsTable(panel: Panel, columns: readonly Column[]): Markup {
  return html`<table class="results">
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

/** Two figures; one card for both while they are small. */
async function timeFigures(panel: Panel, together: boolean): Promise<Markup[]> {
  const parts = [
    html`<figcaption>
        <strong>Time of a trial</strong><span>Training, evaluation and compilation, mean over seeds.</span>
      </figcaption>
      ${await renderChart(trialTimeChart(panel))}`,
    html`<figcaption><strong>Time of a step</strong><span>Median of a trial, mean over seeds.</span></figcaption>
      ${await renderChart(stepTimeChart(panel))}`,
  ];
  return (together ? [parts] : parts).map((part) => html`<figure>${part}</figure>`);
}

async function budgetFigures(panel: Panel, group: BudgetGroup): Promise<Markup[]> {
  const unbudgeted = panel.entries.filter(({ row }) => row.budget.requested === null);
  const entries = group.requested === null ? group.entries : [...unbudgeted, ...group.entries];
  const adapted = group.entries.filter(({ row }) => !row.baseline);
  const title = `${panel.title}, ${group.spec}`;
  const series = seriesOfEntries(entries);
  const figures = [
    figure('Training loss', 'Mean over seeds; the band is their range.', series, lossChart(title, entries)),
  ];
  if (hasEvaluations(entries)) {
    const caption = 'What checkpoints are selected by; the band is the range of the seeds.';
    figures.push(figure('On the selection split', caption, series, metricChart(title, entries)));
  }
  if (adapted.length > 0) {
    const caption = 'What the adapter would store at each step.';
    figures.push(
      figure('Parameters over time', caption, seriesOfEntries(adapted), parameterChart(title, adapted, group)),
    );
  }
  for (const { about, caption, chart } of rankCharts(title, adapted)) {
    figures.push(figure(about, `At the selected checkpoint, mean over seeds: ${caption}.`, [], chart));
  }
  return Promise.all(figures);
}

function grid(figures: readonly Markup[]): Markup {
  return html`<div class="grid">${figures}</div>`;
}

async function figure(title: string, caption: string, series: readonly Series[], chart: Chart): Promise<Markup> {
  return html`<figure>
    <figcaption><strong>${title}</strong><span>${caption}</span></figcaption>
    ${series.length > 0 ? legend(series) : null}${await renderChart(chart)}
  </figure>`;
}

function scoreCaption({ baseline, budgets, lowerIsBetter }: Panel): string {
  const several = budgets.filter(({ requested }) => requested !== null).length > 1;
  return [
    'Large: mean and its 95 % interval; small: single seeds.',
    several ? 'The steps join the best mean at each size.' : 'At one budget the methods stand side by side.',
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

function budgetTitle({ spec, requested }: BudgetGroup): string {
  const size = requested === null ? '' : `${formatCount(requested)} stored parameters`;
  return spec === String(requested) ? size : `${spec}: ${size}`;
}

function failures({ failed }: Summary): Markup | null {
  if (failed.length === 0) return null;
  return html`<h2>Failed trials</h2>
    <div class="card">
      ${factList(
        failed.map(({ arm, task, budget, seed, message }) => ({
          term: `${arm} on ${task}, ${budget}, seed ${seed}`,
          value: message,
        })),
      )}
    </div>`;
}

function factList(facts: readonly Fact[]): Markup {
  return html`<dl>
    ${facts.map(
      ({ term, value }) =>
        html`<dt>${name(term)}</dt>
          <dd>${name(value)}</dd>`,
    )}
  </dl>`;
}
