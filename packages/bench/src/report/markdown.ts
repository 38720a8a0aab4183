import type { TrialResult } from '@peftjs/cli/results';
import { facts, findings, inText, type Cell, type Table, type TextBlock } from './blocks.js';
import { scopeOf } from './facts.js';
import { printable } from '@peftjs/cli/format';
import { reportBlocks } from './sections.js';
import type { Summary } from './statistics/summary.js';
import { verdictParagraphs } from './verdict.js';

/** Renders the report as Markdown: everything but its charts. */
export function renderMarkdown(results: readonly TrialResult[], summary: Summary): string {
  const verdict = findings(verdictParagraphs(summary));
  const blocks = [facts(scopeOf(results)), verdict, ...reportBlocks(results, summary)];
  return `# Which method at this budget?\n\n${inText(blocks).map(rendered).join('\n\n')}\n`;
}

/** The verdicts of a run as paragraphs of Markdown. */
export function verdictMarkdown(summary: Parameters<typeof verdictParagraphs>[0]): string {
  return rendered({ kind: 'findings', paragraphs: verdictParagraphs(summary) });
}

function rendered(block: TextBlock): string {
  switch (block.kind) {
    case 'heading':
      return `${'#'.repeat(block.level)} ${escaped(block.text)}`;
    case 'paragraph':
      return escaped(block.text);
    case 'findings':
      return block.paragraphs
        .map(([first = '', ...others]) => `**${escaped(first)}** ${escaped(others.join(' '))}`.trim())
        .join('\n\n');
    case 'facts':
      return block.facts.map(({ term, value }) => `- ${escaped(term)}: ${escaped(value)}`).join('\n');
    case 'list':
      return block.items.map((item) => `- ${escaped(item)}`).join('\n');
    case 'table':
      return markdownTable(block);
  }
}

function markdownTable({ columns, groups }: Table): string {
  const heads = [columns.map(({ title }) => escaped(title)), columns.map(() => '---')];
  const rows = groups.flatMap((group) => group.rows.map((cells) => cells.map((cell) => escaped(cellText(cell)))));
  return [...heads, ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

function cellText({ main, details }: Cell): string {
  return details.length === 0 ? main : `${main} (${details.join(', ')})`;
}

/** Escapes outside text, so that it cannot be markup, a link, a table cell or a new line. */
function escaped(text: string): string {
  return printable(text).replace(/[\\`*_[\]<>|#~&]/g, (character) =>
    character === '<' ? '&lt;' : character === '&' ? '&amp;' : `\\${character}`,
  );
}
