/** A step of one side. */
export interface SpeedBar {
  readonly label: string;
  readonly milliseconds: number;
  readonly isOurs: boolean;
}

/** The steps of one shape. */
export interface SpeedGroup {
  readonly title: string;
  readonly bars: readonly SpeedBar[];
}

const WIDTH = 760;
const LABELS = 280;
const NUMBERS = 80;
const BAR = 20;
const STEP = 28;
const TITLE = 44;
const OURS = '#0072b2';
const THEIRS = '#999999';

/** An SVG of horizontal bars, one group below the other, each on a scale of its own that begins at 0. */
export function speedChart(groups: readonly SpeedGroup[]): string {
  const heights = groups.map(({ bars }) => TITLE + bars.length * STEP);
  const height = heights.reduce((sum, each) => sum + each, 16);
  const tops = heights.map((_, index) => heights.slice(0, index).reduce((sum, each) => sum + each, 0));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="14">`,
    `<rect width="${WIDTH}" height="${height}" fill="#fff"/>`,
    ...groups.map((group, index) => groupOf(group, tops[index] as number)),
    '</svg>',
    '',
  ].join('\n');
}

function groupOf({ title, bars }: SpeedGroup, top: number): string {
  const longest = Math.max(...bars.map(({ milliseconds }) => milliseconds));
  const lines = bars.map(({ label, milliseconds, isOurs }, index) => {
    const y = top + TITLE + index * STEP;
    const length = Math.round(((WIDTH - LABELS - NUMBERS) * milliseconds) / longest);
    return [
      `<text x="${LABELS - 10}" y="${y + 15}" text-anchor="end">${label}</text>`,
      `<rect x="${LABELS}" y="${y}" width="${length}" height="${BAR}" fill="${isOurs ? OURS : THEIRS}"/>`,
      `<text x="${LABELS + length + 8}" y="${y + 15}">${milliseconds.toFixed(0)} ms</text>`,
    ].join('\n');
  });
  return [`<text x="16" y="${top + 30}" font-weight="bold">${title}, one LoRA step</text>`, ...lines].join('\n');
}
