import { createHash } from 'node:crypto';
import type { TrialResult } from '../results/schema.js';
import type { Block, Cell, Figure, Table } from './blocks.js';
import { legend, NARROW, renderChart } from './charts/draw.js';
import { scopeOf } from './facts.js';
import { html, name, trusted, type Markup } from './html.js';
import { reportBlocks } from './sections.js';
import type { Summary } from './statistics/summary.js';
import { STYLE } from './style.js';
import { verdictParagraphs } from './verdict.js';

/** The style block, kept whole: the policy identifies its content by a hash. */
const STYLE_BLOCK = trusted(`<style>${STYLE}</style>`);

/**
 * Renders the report as one HTML page. It has no scripts and makes no requests, and its content security policy forbids
 * both. Every name in it is treated as hostile and escaped.
 */
export async function renderReport(results: readonly TrialResult[], summary: Summary): Promise<string> {
  const title = summary.rows.length === 0 ? 'No finished trial' : 'Which method at this budget?';
  return `<!doctype html>\n${
    html`<html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta http-equiv="Content-Security-Policy" content="${policy()}" />
        <meta name="viewport" content="width=device-width,initial-scale=1" />
        <title>${title}</title>
        ${STYLE_BLOCK}
      </head>
      <body>
        <header>
          <h1>${title}</h1>
          <ul class="scope">
            ${scopeOf(results).map(({ term, value }) => html`<li>${term} <b>${name(value)}</b></li>`)}
          </ul>
          ${findingsCard(verdictParagraphs(summary))}
        </header>
        <main>${await renderBlocks(reportBlocks(results, summary))}</main>
        <footer>
          Made by peft-bench from the result files beside this page: results/*.json, summary.json, results.csv.
        </footer>
      </body>
    </html>`.text
  }\n`;
}

/** The content security policy: nothing may load, and the one style block is identified by its hash. */
function policy(): string {
  const hash = createHash('sha256').update(STYLE).digest('base64');
  return `default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'`;
}

/** Renders blocks as HTML. One chart is drawn after another, since all at once take much memory. */
export async function renderBlocks(blocks: readonly Block[]): Promise<Markup> {
  const parts: Markup[] = [];
  for (const block of blocks) if (block.only !== 'text') parts.push(await rendered(block));
  return html`${parts}`;
}

async function rendered(block: Block): Promise<Markup> {
  switch (block.kind) {
    case 'heading':
      return block.level === 2 ? html`<h2>${name(block.text)}</h2>` : html`<h3>${name(block.text)}</h3>`;
    case 'paragraph':
      return block.isNote ? html`<p class="note">${name(block.text)}</p>` : html`<p>${name(block.text)}</p>`;
    case 'findings':
      return findingsCard(block.paragraphs);
    case 'facts':
      return html`<div class="card">
        <dl>
          ${block.facts.map(
            ({ term, value }) =>
              html`<dt>${name(term)}</dt>
                <dd>${name(value)}</dd>`,
          )}
        </dl>
      </div>`;
    case 'list':
      return html`<div class="card">
        <ul class="notes">
          ${block.items.map((item) => html`<li>${name(item)}</li>`)}
        </ul>
      </div>`;
    case 'table':
      return tableCard(block);
    case 'figure':
      return figureCard(block);
    case 'details': {
      const content = await renderBlocks(block.blocks);
      const summary = html`<summary><h3>${name(block.title)}</h3></summary>`;
      return block.isOpen
        ? html`<details class="part" open>${summary}${content}</details>`
        : html`<details class="part">${summary}${content}</details>`;
    }
    case 'grid':
      return html`<div class="${block.style}">${await renderBlocks(block.blocks)}</div>`;
  }
}

function findingsCard(paragraphs: readonly (readonly string[])[]): Markup {
  return html`<div class="card short">
    ${paragraphs.map(
      ([first = '', ...others]) => html`<p><strong>${name(first)}</strong> ${name(others.join(' '))}</p>`,
    )}
  </div>`;
}

function tableCard({ style, columns, groups }: Table): Markup {
  const hasRowHeads = columns[0]?.title === '';
  const isCards = style.includes('cards');
  const heads = columns.map(({ title, detail }, index) =>
    index === 0 && hasRowHeads
      ? html`<td></td>`
      : html`<th scope="col">${name(title)}${smaller(detail === undefined ? [] : [detail])}</th>`,
  );
  const lineOf = (cells: readonly Cell[]): Markup[] =>
    cells.map(({ main, details, look }, index) => {
      const content = html`${name(main)}${smaller(details)}`;
      if (index === 0 && hasRowHeads) return html`<th scope="row">${content}</th>`;
      const label = isCards ? html` data-label="${columns[index]?.title ?? ''}"` : null;
      return html`<td${look === undefined ? null : html` class="${look}"`}${label}>${content}</td>`;
    });
  const bodies = groups.map(({ title, rows }) => {
    const head = html`<th scope="rowgroup" colspan="${columns.length}">${name(title ?? '')}</th>`;
    return [title === undefined ? [] : [head], ...rows.map(lineOf)]
      .filter(({ length }) => length > 0)
      .map(
        (cells) =>
          html`<tr>
            ${cells}
          </tr>`,
      );
  });
  return html`<div class="card scroll">
    <table class="${style}">
      <thead>
        <tr>
          ${heads}
        </tr>
      </thead>
      ${bodies.map(
        (lines) =>
          html`<tbody>
            ${lines}
          </tbody>`,
      )}
    </table>
  </div>`;
}

function smaller(details: readonly string[]): Markup[] {
  return details.map((detail) => html` <small>${name(detail)}</small>`);
}

async function figureCard({ title, caption, series, chart, size, blocks }: Figure): Promise<Markup> {
  const charts = size
    ? html`<div class="at-desk">${await renderChart(chart(size))}</div>
        <div class="at-phone">${await renderChart(chart(NARROW))}</div>`
    : await renderChart(chart(NARROW));
  const drawn = html`${series.length > 0 ? legend(series) : null}${charts}`;
  const head = html`<figcaption>
    <strong>${title}</strong>${caption === '' ? null : html`<span>${caption}</span>`}
  </figcaption>`;
  if (blocks.length === 0) return html`<figure>${head}${drawn}</figure>`;
  return html`<figure class="wide">
    ${head}
    <div class="beside">
      <div>${drawn}</div>
      <div>${await renderBlocks(blocks)}</div>
    </div>
  </figure>`;
}
