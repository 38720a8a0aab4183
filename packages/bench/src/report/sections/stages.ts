import { stageSummaries, type StageSummary } from '../../statistics/stages.js';
import { STAGE_SERIES, stageChart } from '../charts/stages.js';
import { renderChart } from '../charts/svg.js';
import { legend } from '../charts/theme.js';
import { bySeries, type Panel } from '../contents.js';
import { html, name, type Markup } from '../html.js';
import { lastStage, stageTable } from '../stage-table.js';

/** What every arm in stages still knows as its ranks vanish; nothing where there is none. */
export async function stageFigures(panel: Panel): Promise<Markup[]> {
  const staged = bySeries(panel.entries).flatMap(({ row, trials }) => {
    const stages = stageSummaries(trials);
    return stages.length === 0 ? [] : [{ label: row.label, stages }];
  });
  return Promise.all(staged.map(({ label, stages }) => stageFigure(panel, label, stages)));
}

async function stageFigure(panel: Panel, label: string, stages: readonly StageSummary[]): Promise<Markup> {
  const { titles, rows } = stageTable(stages, panel.metric);
  return html`<figure class="wide">
    <figcaption>
      <strong>Memorization and generalization: ${name(label)}</strong><span>${captionOf(stages)}</span>
    </figcaption>
    <div class="beside">
      <div>${legend(STAGE_SERIES)}${await renderChart(stageChart(`${label} on ${panel.title}`, stages))}</div>
      <div class="scroll">
        <table class="stages">
          <thead>
            <tr>
              ${titles.map((title) => html`<th scope="col">${name(title)}</th>`)}
            </tr>
          </thead>
          <tbody>
            ${rows.map(
              (cells) =>
                html`<tr>
                  ${cells.map(
                    ({ main, detail }) =>
                      html`<td>${name(main)}${detail === undefined ? null : html`<small>${detail}</small>`}</td>`,
                  )}
                </tr>`,
            )}
          </tbody>
        </table>
      </div>
    </div>
  </figure>`;
}

function captionOf(stages: readonly StageSummary[]): string {
  const seeds = Math.max(...stages.map((stage) => stage.seeds));
  const spread = seeds > 1 ? `, mean over ${seeds} seeds with its 95 % interval` : ', one seed';
  return `What it still knows of training rows and of the reported ones, in percent of the first stage${spread}. ${lastStage(stages)}`;
}
