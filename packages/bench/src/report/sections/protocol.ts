import type { DoneTrial } from '../../results/schema.js';
import type { Summary } from '../../statistics/summary.js';
import { configurationsOf, protocolOf, sourcesOf, versionsOf } from '../facts.js';
import { html, type Markup } from '../html.js';
import { factList } from './parts.js';

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
        sourcesOf(done).map(({ task, source, licence, rows, lost }) => ({
          term: task,
          value: `${source}; licence: ${licence}; rows: ${rows}${lost && `; ${lost}`}`,
        })),
      )}
    </div>
  </section>`;
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
