import { createHash } from 'node:crypto';
import type { TrialResult } from '../results/schema.js';
import type { Summary } from '../statistics/summary.js';
import { panelsOf, type Panel } from './contents.js';
import { outcomesOf, scopeOf } from './facts.js';
import { html, name, trusted, type Markup } from './html.js';
import { overallSections } from './sections/overall.js';
import { protocolSection } from './sections/protocol.js';
import { taskSection } from './sections/task.js';
import { tuningSection } from './sections/tuning.js';
import { twoRunsSection } from './sections/two-runs.js';
import { STYLE } from './style.js';

/** Whole, because the policy names what stands between the tags by its hash. */
const STYLE_BLOCK = trusted(`<style>${STYLE}</style>`);

/**
 * The report as one HTML page: no script, no request to anywhere, and a content security policy that would stop both.
 * Every name in it is taken for hostile and escaped.
 */
export async function renderReport(results: readonly TrialResult[], summary: Summary): Promise<string> {
  const panels = panelsOf(results, summary);
  const done = results.filter((result) => result.status === 'done');
  const sections = [...(summary.against ? [twoRunsSection(summary.against)] : []), ...(await overallSections(summary))];
  for (const panel of panels) sections.push(await taskSection(panel, summary));
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
          <div class="card short">${panels.map(shortOutcome)}</div>
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

function shortOutcome(panel: Panel): Markup {
  const outcomes = outcomesOf(panel);
  const sentences = outcomes.length === 0 ? ['No row can be ranked.'] : outcomes;
  return html`<p><strong>${name(panel.title)}</strong></p>
    <ul>
      ${sentences.map((sentence) => html`<li>${name(sentence)}</li>`)}
    </ul>`;
}

/** Nothing may load; the one style block is named by its hash. */
function policy(): string {
  const hash = createHash('sha256').update(STYLE).digest('base64');
  return `default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'`;
}
