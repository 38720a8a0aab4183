import type { DoneTrial } from '../../results/schema.js';
import type { Markup } from '../html.js';
import { digits, IMAGE_LABEL, imageOf, textAt, textWidth, WIDTH } from './draw.js';
import { by } from '../statistics/comparisons.js';
import { layerOf, shortened } from './ranks.js';

/** With at most this many modules, each has its name; otherwise only layers are named. */
const MAX_NAMED = 16;
/** The gap between the columns of two tasks, in px. */
const GAP = 8;
const TOP = 20;

/** One column: the final ranks of one trial. */
export type Trial = Pick<DoneTrial, 'task' | 'seed' | 'ranks'>;

/**
 * A map of the modules that keep ranks in every trial of an arm: modules down, trials across, with one block of seeds
 * per task; darker means more ranks. Columns that are alike within a block depend on the task, columns that repeat
 * across blocks on the seed.
 */
export function choiceMap(description: string, trials: readonly Trial[]): Markup {
  const modules = [...new Set(trials.flatMap(({ ranks }) => Object.keys(ranks)))];
  const columns = [...trials].sort(
    by(
      ({ task }) => task,
      ({ seed }) => seed,
    ),
  );
  const tasks = [...new Set(columns.map(({ task }) => task))];
  const names = rowNames(modules);
  const left = 6 + Math.max(0, ...names.map(({ text }) => textWidth(text, IMAGE_LABEL)));
  const [wide, high] = [
    (WIDTH - left - GAP * (tasks.length - 1)) / columns.length,
    modules.length > MAX_NAMED ? 8 : 16,
  ];
  const height = TOP + high * modules.length;
  const at = (column: number): number => left + column * wide + GAP * tasks.indexOf(columns[column]?.task ?? '');
  const most = Math.max(1, ...columns.flatMap(({ ranks }) => Object.values(ranks)));
  const cells = columns.flatMap(({ ranks }, column) =>
    modules.map((path, row) => ({ rank: ranks[path] ?? 0, x: at(column), y: TOP + row * high })),
  );
  const levels = [...new Set(cells.map(({ rank }) => rank))].sort((a, b) => a - b);
  const shapes = levels.map((level) => {
    const outline = cells
      .filter(({ rank }) => rank === level)
      .map(({ x, y }) => `M${digits(x)},${digits(y)}h${digits(wide - 1)}v${high - 1}h-${digits(wide - 1)}z`);
    return `<path d="${outline.join('')}" fill="var(--strong)" fill-opacity="${digits(0.05 + (0.95 * level) / most)}"/>`;
  });
  const heads = tasks.map((task) => {
    const own = columns.flatMap((each, column) => (each.task === task ? [column] : []));
    const from = at(own[0] ?? 0);
    return textAt(from, TOP - 6, fitting(task, at(own.at(-1) ?? 0) + wide - from), 'start');
  });
  const labels = names.map(({ row, text }) =>
    textAt(left - 6, TOP + row * high + (modules.length > MAX_NAMED ? 10 : 12), text, 'end'),
  );
  return imageOf(description, { width: WIDTH, height }, [...heads, ...labels, ...shapes]);
}

/** A label for each module, or one where each layer begins. */
function rowNames(modules: readonly string[]): { row: number; text: string }[] {
  if (modules.length <= MAX_NAMED) {
    const short = shortened(modules);
    return modules.map((path, row) => ({ row, text: short.get(path) ?? path }));
  }
  const layers = modules.map((path) => layerOf(path)?.layer);
  return layers.flatMap((layer, row) =>
    layer !== undefined && layer !== layers[row - 1] ? [{ row, text: `layer ${layer}` }] : [],
  );
}

/** Cuts a text to a width. */
function fitting(text: string, width: number): string {
  if (textWidth(text, IMAGE_LABEL) <= width) return text;
  const characters = Array.from(text);
  while (characters.length > 1 && textWidth(`${characters.join('')}…`, IMAGE_LABEL) > width) characters.pop();
  return `${characters.join('')}…`;
}
