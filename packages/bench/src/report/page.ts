import { createHash } from 'node:crypto';
import type { DoneTrial, TrialResult } from '../results/schema.js';
import { panelsOf, type Panel } from './contents.js';
import { configurationsOf, protocolOf, scopeOf, sourcesOf, versionsOf } from './facts.js';
import { factList, html, name, trusted, type Markup } from './html.js';
import { overallSections, taskSection, verdictCard } from './sections.js';
import { stabilitySection } from './stability.js';
import type { Summary } from './statistics/summary.js';
import { STYLE } from './style.js';
import { tuningSection } from './tuning.js';
import { twoRunsSection } from './two-runs.js';
import { verdictParagraphs } from './verdict.js';

/** The style block, kept whole: the policy identifies its content by a hash. */
const STYLE_BLOCK = trusted(`<style>${STYLE}</style>`);

/**
 * Renders the report as one HTML page. It has no scripts and makes no requests, and its content security policy forbids
 * both. Every name in it is treated as hostile and escaped.
 */
export async function renderReport(results: readonly TrialResult[], summary: Summary): Promise<string> {
  const panels = panelsOf(results, summary);
  const done = results.filter((result) => result.status === 'done');
  const sections: (Markup | null)[] = [
    ...(summary.against ? [twoRunsSection(summary.against)] : []),
    ...(await overallSections(summary)),
  ];
  const stability = stabilitySection(results, summary);
  const isOverTasks = summary.overall.length > 0;
  if (isOverTasks) sections.push(stability);
  for (const panel of panels) sections.push(await taskSection(panel, summary));
  if (!isOverTasks) sections.push(stability);
  return `<!doctype html>\n${
    html`<html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta http-equiv="Content-Security-Policy" content="${policy()}" />
        <meta name="viewport" content="width=device-width,initial-scale=1" />
        <title>${titleOf(panels)}</title>
        ${STYLE_BLOCK}
      </head>
      <body>
        <header>
          <h1>${titleOf(panels)}</h1>
          <ul class="scope">
            ${scopeOf(results).map(({ term, value }) => html`<li>${term} <b>${name(value)}</b></li>`)}
          </ul>
          ${verdictCard(verdictParagraphs(summary))}
        </header>
        <main>${sections}${tuningSection(results)}${protocolSection(done, summary)}</main>
        <footer>
          Made by peft-bench from the result files beside this page: results/*.json, summary.json, results.csv.
        </footer>
      </body>
    </html>`.text
  }\n`;
}

function titleOf(panels: readonly Panel[]): string {
  return panels.length === 0 ? 'No finished trial' : 'Which method at this budget?';
}

/** The content security policy: nothing may load, and the one style block is identified by its hash. */
function policy(): string {
  const hash = createHash('sha256').update(STYLE).digest('base64');
  return `default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'`;
}

/** The notes, settings and data behind the numbers. */
function protocolSection(done: readonly DoneTrial[], summary: Summary): Markup {
  return html`<section>
    <h2>Limitations</h2>
    <div class="card">
      <ul class="notes">
        ${summary.notes.map((note) => html`<li>${note}</li>`)}
        <li>
          Checkpoints were selected on separate rows; scores are from the reported rows. They say how these methods do
          on these data, not on others.
        </li>
        <li>
          Times were measured on one machine, with several trials running at once: compare them within this report only.
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
