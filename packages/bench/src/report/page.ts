import { createHash } from 'node:crypto';
import type { TrialResult } from '@peftjs/cli/results';
import type { Block, Cell, Figure, Table } from './blocks.js';
import { legend, NARROW, renderChart } from './charts/draw.js';
import { scopeOf } from './contents.js';
import { element, html, name, trusted, type Markup } from './html.js';
import { reportBlocks } from './sections.js';
import type { Summary } from './statistics/summary.js';
import { STYLE } from './style.js';
import { verdictParagraphs } from './findings.js';

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
      return element(`h${block.level}`, name(block.text));
    case 'paragraph':
      return element('p', name(block.text), { class: block.isNote ? 'note' : undefined });
    case 'findings':
      return findingsCard(block.paragraphs);
    case 'facts':
      return inDiv(
        element(
          'dl',
          block.facts.map(({ term, value }) => [element('dt', name(term)), element('dd', name(value))]),
        ),
      );
    case 'list':
      return inDiv(
        element(
          'ul',
          block.items.map((item) => element('li', name(item))),
          { class: 'notes' },
        ),
      );
    case 'table':
      return tableCard(block);
    case 'figure':
      return figureCard(block);
    case 'details': {
      const summary = element('summary', element('h3', name(block.title)));
      const open = block.isOpen ? '' : undefined;
      return element('details', [summary, await renderBlocks(block.blocks)], { class: 'part', open });
    }
    case 'grid':
      return element('div', await renderBlocks(block.blocks), { class: block.style });
  }
}

function inDiv(content: Markup, kind = 'card'): Markup {
  return element('div', content, { class: kind });
}

function findingsCard(paragraphs: readonly (readonly string[])[]): Markup {
  const parts = paragraphs.map(([first = '', ...others]) => {
    const [lead, rest] = [html`<strong>${name(first)}</strong>`, name(others.join(' '))];
    if (paragraphs.length === 1 || others.length === 0) return html`<p>${lead} ${rest}</p>`;
    return html`<details>
      <summary>${lead}</summary>
      ${rest}
    </details>`;
  });
  return inDiv(html`${parts}`, 'card short');
}

function tableCard({ style, columns, groups }: Table): Markup {
  const hasRowHeads = columns[0]?.title === '';
  const titleOf = (column: number): string | undefined =>
    style.includes('cards') ? columns[column]?.title : undefined;
  const heads = columns.map(({ title, detail }, column) =>
    column === 0 && hasRowHeads
      ? element('td', null)
      : element('th', content(title, detail === undefined ? [] : [detail]), { scope: 'col' }),
  );
  const row = (cells: readonly Cell[]): Markup[] =>
    cells.map(({ main, details, look }, column) =>
      column === 0 && hasRowHeads
        ? element('th', content(main, details), { scope: 'row' })
        : element('td', content(main, details), { class: look, 'data-label': titleOf(column) }),
    );
  const bodies = groups.map(({ title, rows }) => {
    const attributes = { scope: 'rowgroup', colspan: String(columns.length) };
    const head = title === undefined ? [] : [[element('th', name(title), attributes)]];
    const lines = [...head, ...rows.map(row)].map((cells) => html`${element('tr', cells)} `);
    return element('tbody', lines);
  });
  return inDiv(element('table', [element('thead', element('tr', heads)), bodies], { class: style }), 'card scroll');
}

function content(main: string, details: readonly string[]): Markup[] {
  return [name(main), ...details.map((detail) => html` <small>${name(detail)}</small>`)];
}

async function figureCard({ title, caption, series, chart, size, blocks }: Figure): Promise<Markup> {
  const charts = size
    ? [inDiv(await renderChart(chart(size)), 'at-desk'), inDiv(await renderChart(chart(NARROW)), 'at-phone')]
    : [await renderChart(chart(NARROW))];
  const drawn = series.length > 0 ? [legend(series), ...charts] : charts;
  const head = element('figcaption', [element('strong', title), caption === '' ? null : element('span', caption)]);
  if (blocks.length === 0) return element('figure', [head, drawn]);
  const beside = [element('div', drawn), element('div', await renderBlocks(blocks))];
  return element('figure', [head, element('div', beside, { class: 'beside' })], { class: 'wide' });
}
