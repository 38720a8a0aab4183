import { PeftError } from '@peftjs/core';

/**
 * Returns the chart of a report whose description starts with `description`, as an SVG file that follows the reader's
 * light or dark screen. If a chart exists in two widths, it returns the narrow one, which fits a page's column.
 */
export function standaloneSvg(report: string, description: string): string {
  const widthOf = (svg: string): number => Number(/width="(\d+)"/.exec(svg)?.[1]);
  const [found] = [...report.matchAll(/<svg .*?<\/svg>/gs)]
    .map(([svg]) => svg)
    .filter((svg) => svg.includes(`aria-label="${description}`))
    .sort((a, b) => widthOf(a) - widthOf(b));
  if (!found)
    throw new PeftError('PEFT_PUBLISH', `expected a chart described as "${description}" in the report, got none`);
  const [, width = '', height = ''] = /width="(\d+)" height="(\d+)"/.exec(found) ?? [];
  const ground = `<rect x="-12" y="-12" width="${Number(width) + 24}" height="${Number(height) + 24}" fill="var(--paper)"/>`;
  return found
    .replace(/viewBox="[^"]*"/, `viewBox="-12 -12 ${Number(width) + 24} ${Number(height) + 24}"`)
    .replace('<svg ', '<svg xmlns="http://www.w3.org/2000/svg" font-family="system-ui,sans-serif" ')
    .replace('>', `><style>${coloursOf(report)}</style>${ground}`);
}

/** Returns the report's colours, light and dark. */
function coloursOf(report: string): string {
  const [light, dark] = [...report.matchAll(/:root\{[^}]*\}/g)].map(([rule]) => rule);
  if (!light || !dark)
    throw new PeftError('PEFT_PUBLISH', 'expected the colours of a light and a dark page in the report');
  return `${light}@media (prefers-color-scheme:dark){${dark}}`;
}
