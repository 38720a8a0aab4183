import type { RunComparison } from '../../statistics/two-runs.js';
import { html, name, type Markup } from '../html.js';
import { changedFacts, RUN_COLUMNS, unpairedNames } from '../two-runs.js';
import { factList } from './parts.js';

/** This run beside another one of the same study. */
export function twoRunsSection({ against, rows, unpaired, changed }: RunComparison): Markup {
  return html`<section>
    <h2>Compared with ${name(against)}</h2>
    <p class="note">
      Trials of the same arm, task, budget and seed, here minus there; intervals are of the mean difference, p is the
      exact sign-flip p, adjusted by Holm over the tasks of an arm and budget. Times and memory are comparable only
      where both runs had the same machine to themselves.
    </p>
    <div class="card scroll">
      <table class="runs">
        <thead>
          <tr>
            ${RUN_COLUMNS.map(({ title }) => html`<th scope="col">${title}</th>`)}
          </tr>
        </thead>
        <tbody>
          ${rows.map(
            (row) =>
              html`<tr>
                ${RUN_COLUMNS.map((column) => {
                  const { main, detail } = column.cell(row);
                  return html`<td>
                    ${name(main)}${detail === undefined ? null : html`<small>${name(detail)}</small>`}
                  </td>`;
                })}
              </tr>`,
          )}
        </tbody>
      </table>
    </div>
    ${differs(changedFacts(changed))} ${missing(unpairedNames(unpaired))}
  </section>`;
}

function differs(facts: ReturnType<typeof changedFacts>): Markup {
  return html`<h3>What differs besides the numbers</h3>
    <div class="card">
      ${facts.length === 0 ? html`<p class="note">Nothing: versions, engine, protocol and options are the same.</p>` : factList(facts)}
    </div>`;
}

function missing(names: readonly string[]): Markup | null {
  if (names.length === 0) return null;
  return html`<h3>Trials without a pair</h3>
    <div class="card">
      <ul class="notes">
        ${names.map((each) => html`<li>${name(each)}</li>`)}
      </ul>
    </div>`;
}
