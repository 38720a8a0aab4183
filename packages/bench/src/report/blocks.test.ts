import { expect, it } from 'vitest';
import { syntheticResults } from '../../../cli/test/synthetic-results.js';
import { cell, details, figure, grid, groupedTable, heading, inText, note, paragraph } from './blocks.js';
import { trusted } from './html.js';
import { renderMarkdown } from './files.js';
import { reportBlocks } from './sections.js';
import { summarise } from './statistics/summary.js';

const chart = () => trusted('<svg></svg>');

it('a text has the blocks of details and figures below a title, but no chart and nothing that is for the page only', () => {
  const charts = details('Charts', [grid([figure('Loss', 'Mean.', chart), note('The line is the loss.', 'page')])]);
  const shown = inText([charts, figure('Sizes', 'Mean.', chart, { blocks: [paragraph('Small.')] })]);
  expect(shown).toEqual([heading('Sizes', 3), paragraph('Small.')]);
  const nested = details('Statistics', [heading('Pairs', 3), paragraph('None.')]);
  expect(inText([nested])).toEqual([heading('Pairs', 3), paragraph('None.')]);
});

it('a text names the group of a row in its first cell', () => {
  const columns = [{ title: 'arm', cell: (arm: string) => cell(arm, 'a detail') }];
  const table = groupedTable(columns, [{ title: 'r=4: 9 parameters', suffix: ' r=4', rows: ['lora'] }], 'results');
  expect(inText([table])).toEqual([{ ...table, groups: [{ rows: [[cell('lora r=4', 'a detail')]] }] }]);
});

it('Markdown has every heading, fact and sentence of the report that is not for the page only', () => {
  const results = syntheticResults({ seeds: 2 });
  const summary = summarise(results, { reference: 'lora' });
  const markdown = renderMarkdown(results, summary).replaceAll('\\', '').replaceAll('&lt;', '<');
  const texts = inText(reportBlocks(results, summary)).flatMap((block) => {
    if (block.kind === 'facts') return block.facts.map(({ term, value }) => `- ${term}: ${value}`);
    if (block.kind === 'list') return block.items;
    return block.kind === 'heading' || block.kind === 'paragraph' ? [block.text] : [];
  });
  expect(texts.length).toBeGreaterThan(30);
  for (const text of texts) expect(markdown).toContain(text);
});
