import { PeftError } from '@peftjs/core';
import { verdictMarkdown, type Summary } from '@peftjs/bench';
import { scoresOf } from './scores.js';

/** A published summary. Older ones have no verdicts. */
export type Published = Omit<Summary, 'verdicts'> & Partial<Pick<Summary, 'verdicts'>>;

/** Returns a page with its run's scores and verdict between the marks. @throws PeftError where marks are missing. */
export function withRegions(page: string, summary: Published): string {
  const { verdicts } = summary;
  const withScores = withRegion(page, 'scores', scoresOf(summary));
  return verdicts ? withRegion(withScores, 'verdict', verdictMarkdown({ ...summary, verdicts })) : withScores;
}

function withRegion(page: string, name: string, text: string): string {
  const [start, end] = [`<!-- ${name}: written by tools/publish -->`, `<!-- /${name} -->`];
  const [before, rest] = page.split(start);
  const after = rest?.split(end)[1];
  if (before === undefined || after === undefined) {
    throw new PeftError('PEFT_PUBLISH', `expected "${start}" and "${end}" in the page, got a page without them`);
  }
  return `${before}${start}\n<!-- prettier-ignore-start -->\n\n${text}\n\n<!-- prettier-ignore-end -->\n${end}${after}`;
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

The [full report](results/${name}/report.html) has every pair of arms, training curves, ranks, times and memory;
[summary.csv](results/${name}/summary.csv) and [results.csv](results/${name}/results.csv) have the numbers.

## Setup

## Limitations
`;
}
