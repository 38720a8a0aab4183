import { PeftError } from '@peftjs/core';
import { verdictMarkdown, type Summary } from '@peftjs/bench';
import { scoresOf } from './scores.js';

/** Returns a page with its run's scores and verdict between the marks. @throws PeftError where marks are missing. */
export function withRegions(page: string, summary: Summary): string {
  return withRegion(withRegion(page, 'scores', scoresOf(summary)), 'verdict', verdictMarkdown(summary));
}

function withRegion(page: string, name: string, text: string): string {
  const [start, end] = [`<!-- ${name}: written by tools/publish -->`, `<!-- /${name} -->`];
  const [before, rest] = page.split(start);
  const after = rest?.split(end)[1];
  if (before === undefined || after === undefined) {
    throw new PeftError('PEFT_PUBLISH', `expected "${start}" and "${end}" in the page, got a page without them`);
  }
  return `${before}${start}\n<!-- oxfmt-ignore-start -->\n\n${text}\n\n<!-- oxfmt-ignore-end -->\n${end}${after}`;
}

/** Returns a new page with everything but prose. */
export function newPage(name: string, charts: readonly string[]): string {
  const region = (of: string): string => `<!-- ${of}: written by tools/publish -->\n<!-- /${of} -->`;
  return `# ${name}

${region('verdict')}

${charts.map((file) => `![${file}](results/${name}/${file}.svg)`).join(' ')}

## Scores

The mean of the seeds with its 95 % interval. The best mean of each budget is bold, even if the difference is not significant.

${region('scores')}

The [full report](../reference/result-file.md#published-studies) has every pair of arms, training curves, ranks, times
and memory; [summary.csv](results/${name}/summary.csv) has the numbers of this table.

## Setup

## Limitations
`;
}
