/** The scores of a pair of runs. */
export interface ScorePoint {
  /** The task. */
  readonly task: string;
  /** The score of PEFT. */
  readonly peft: number;
  /** The score of peftjs. */
  readonly peftjs: number;
}

/** The side of the square for scores from 0 to 1, in px. */
const SIZE = 360;
const MARGIN = 56;
const LEGEND = 200;
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00'];

/** Draws peftjs's scores against PEFT's as SVG; points on the diagonal are equal. */
export function scoresChart(points: readonly ScorePoint[]): string {
  const tasks = [...new Set(points.map(({ task }) => task))];
  const width = SIZE + 2 * MARGIN + LEGEND;
  const height = SIZE + 2 * MARGIN;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="13">`,
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    `<g stroke="#ccc">${[0, 0.25, 0.5, 0.75, 1].map(gridLines).join('')}</g>`,
    `<line x1="${x(0)}" y1="${y(0)}" x2="${x(1)}" y2="${y(1)}" stroke="#888" stroke-dasharray="4 4"/>`,
    ...[0, 0.25, 0.5, 0.75, 1].map(gridLabels),
    `<text x="${x(0.5)}" y="${height - 12}" text-anchor="middle">score of PEFT</text>`,
    `<text transform="translate(16 ${y(0.5)}) rotate(-90)" text-anchor="middle">score of peftjs</text>`,
    ...points.map(({ task, peft, peftjs }) => circle(x(peft), y(peftjs), tasks.indexOf(task))),
    ...tasks.map((task, index) => legendLine(task, index)),
    '</svg>',
    '',
  ].join('\n');
}

function x(score: number): number {
  return round(MARGIN + score * SIZE);
}

function y(score: number): number {
  return round(MARGIN + (1 - score) * SIZE);
}

function round(value: number): number {
  return Math.round(100 * value) / 100;
}

function gridLines(score: number): string {
  const [left, right] = [x(0), x(1)];
  return (
    `<line x1="${left}" y1="${y(score)}" x2="${right}" y2="${y(score)}"/>` +
    `<line x1="${x(score)}" y1="${y(0)}" x2="${x(score)}" y2="${y(1)}"/>`
  );
}

function gridLabels(score: number): string {
  return (
    `<text x="${x(0) - 6}" y="${y(score) + 4}" text-anchor="end">${score}</text>` +
    `<text x="${x(score)}" y="${y(0) + 18}" text-anchor="middle">${score}</text>`
  );
}

function circle(atX: number, atY: number, index: number): string {
  const colour = COLOURS[index % COLOURS.length] ?? '#000';
  return `<circle cx="${atX}" cy="${atY}" r="5" fill="${colour}" fill-opacity=".6" stroke="${colour}"/>`;
}

function legendLine(task: string, index: number): string {
  const atY = MARGIN + 12 + 22 * index;
  const atX = SIZE + 2 * MARGIN;
  return `${circle(atX, atY, index)}<text x="${atX + 12}" y="${atY + 4}">${task}</text>`;
}
