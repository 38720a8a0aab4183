import type { DoneTrial } from '@peftjs/cli/results';
import { figure, type Block } from '../blocks.js';
import { bySeries, type Entry } from '../contents.js';
import { escapeHtml, trusted, type Markup } from '../html.js';
import { digits, textWidth, WIDTH } from './draw.js';

/**
 * A map of live ranks at the selected checkpoints, averaged over seeds: of the arms whose modules differ or, if none
 * do, of all arms with ranks.
 */
export function rankFigures(title: string, entries: readonly Entry[]): Block[] {
  const ranked = bySeries(entries).flatMap(({ series, trials }) => {
    const ranks = meanOfSeeds(trials.map((trial) => trial.ranks));
    return Object.keys(ranks).length > 0 ? [{ title: series.label, columns: [{ width: 1, ranks }] }] : [];
  });
  const uneven = ranked.filter(({ columns: [only] }) => new Set(Object.values(only?.ranks ?? {})).size > 1);
  const shown = uneven.length > 0 ? uneven : ranked;
  if (shown.length === 0) return [];
  const caption = 'At the selected checkpoint, mean over seeds: modules down, arms across; the darker, the more.';
  return [figure('Rank per module', caption, () => rankMap(`Rank per module and arm on ${title}`, shown))];
}

/** Columns of a map that belong together. */
export interface RankGroup {
  /** The title above them. */
  readonly title: string;
  /** The columns, from the left: their ranks by module path, and their widths relative to others. */
  readonly columns: readonly { readonly width: number; readonly ranks: Readonly<Record<string, number>> }[];
}

/** With at most this many modules, each has its name; otherwise only layers are named. */
const MAX_NAMED = 16;
/** The gap between two groups, and the least width of a cell with a number, in px. */
const [GAP, NUMBERED] = [8, 30];
/** The font size, in px. */
const FONT_SIZE = 12;

/** A map of ranks, with numbers where they fit: modules down, groups of columns across; darker means more ranks. */
export function rankMap(description: string, groups: readonly RankGroup[]): Markup {
  const columns = groups.flatMap((group) => group.columns);
  const modules = [...new Set(columns.flatMap(({ ranks }) => Object.keys(ranks)))];
  const most = Math.max(1, ...columns.flatMap(({ ranks }) => Object.values(ranks)));
  const names = rowNames(modules);
  const left = 6 + Math.max(0, ...names.map(({ text }) => textWidth(text, FONT_SIZE)));
  const unit = (WIDTH - left - GAP * (groups.length - 1)) / columns.reduce((sum, { width }) => sum + width, 0);
  const high = modules.length > MAX_NAMED ? 8 : 16;
  const widthOf = (group: RankGroup): number => unit * group.columns.reduce((sum, { width }) => sum + width, 0);
  const longest = Math.max(...groups.map(({ title }) => textWidth(title, FONT_SIZE)));
  const isUpright = groups.some((group) => textWidth(group.title, FONT_SIZE) > widthOf(group));
  const top = isUpright ? 8 + longest : 20;
  const outlines = new Map<number, string>();
  const texts: string[] = [];
  let x = left;
  for (const group of groups) {
    const at = isUpright ? x + widthOf(group) / 2 + 4 : x;
    texts.push(
      textAt(at, top - 6, group.title, 'start', isUpright ? ` transform="rotate(-90 ${digits(at)} ${top - 6})"` : ''),
    );
    for (const { width, ranks } of group.columns) {
      for (const [row, path] of modules.entries()) {
        const rank = Number((ranks[path] ?? 0).toFixed(1));
        const [y, wide] = [top + row * high, digits(Math.max(0.5, width * unit - 1))];
        outlines.set(rank, `${outlines.get(rank) ?? ''}M${digits(x)},${digits(y)}h${wide}v${high - 1}h-${wide}z`);
        const ink = rank > 0.7 * most ? ' fill="var(--on-strong)"' : ' fill="var(--ink)"';
        if (modules.length <= MAX_NAMED && width * unit > NUMBERED)
          texts.push(textAt(x + (width * unit) / 2, y + 12, String(rank), 'middle', ink));
      }
      x += width * unit;
    }
    x += GAP;
  }
  const shapes = [...outlines].map(
    ([rank, outline]) =>
      `<path d="${outline}" fill="var(--strong)" fill-opacity="${digits(0.05 + (0.95 * rank) / most)}"/>`,
  );
  const labels = names.map(({ row, text }) =>
    textAt(left - 6, top + row * high + (modules.length > MAX_NAMED ? 10 : 12), text, 'end'),
  );
  const height = Math.ceil(top + high * modules.length);
  return trusted(
    `<svg role="img" aria-label="${escapeHtml(description)}" width="${WIDTH}" height="${height}" ` +
      `viewBox="0 0 ${WIDTH} ${height}" font-size="${FONT_SIZE}" fill="var(--soft)">` +
      `${[...shapes, ...labels, ...texts].join('')}</svg>`,
  );
}

function textAt(x: number, y: number, text: string, anchor: 'start' | 'middle' | 'end', more = ''): string {
  return `<text x="${digits(x)}" y="${digits(y)}" text-anchor="${anchor}"${more}>${escapeHtml(text)}</text>`;
}

/** The most characters of a module's name. */
const MAX_LABEL = 30;

/** A label for each module, with the end of its path; of many modules one where each layer begins. */
function rowNames(modules: readonly string[]): { row: number; text: string }[] {
  if (modules.length <= MAX_NAMED) {
    return modules.map((path, row) => ({
      row,
      text: path.length <= MAX_LABEL ? path : `…${path.slice(1 - MAX_LABEL)}`,
    }));
  }
  const layers = modules.map((path) => /(?:^|\.)(\d+)(?:\.|$)/.exec(path)?.[1]);
  return layers.flatMap((layer, row) =>
    layer !== undefined && layer !== layers[row - 1] ? [{ row, text: `layer ${layer}` }] : [],
  );
}

/** The most columns of a map over time: more would only make the page larger. */
const MAX_STEP_COLUMNS = 24;

/** Charts of the live ranks of every module over the steps, for each arm whose ranks change. */
export function gateFigures(title: string, entries: readonly Entry[]): Block[] {
  return bySeries(entries).flatMap(({ series: { label }, trials }) => {
    const moments = momentsOf(trials);
    const [first, ...later] = moments;
    const hasChanged = ({ ranks }: Moment): boolean =>
      Object.entries(ranks).some(([path, rank]) => rank !== first?.ranks[path]);
    if (!later.some(hasChanged)) return [];
    const most = Math.max(...moments.flatMap(({ ranks }) => Object.values(ranks)));
    const description = `Live ranks of every module of ${label} over training steps on ${title}`;
    const caption = `One line per module, mean over seeds: the fainter, the fewer. The strongest has rank ${Number(most.toFixed(1))}.`;
    const columns = moments.map(({ step, ranks }, at) => ({ width: step - (moments[at - 1]?.step ?? 0), ranks }));
    const group = { title: `steps 1 to ${moments.at(-1)?.step ?? 1}`, columns };
    return figure(`Live ranks over time: ${label}`, caption, () => rankMap(description, [group]));
  });
}

/** Live ranks of every module at one step, averaged over seeds. */
interface Moment {
  readonly step: number;
  readonly ranks: Readonly<Record<string, number>>;
}

function momentsOf(trials: readonly DoneTrial[]): Moment[] {
  const bySteps = trials.map(
    ({ history }) => new Map(history.flatMap(({ step, ranks }) => (ranks ? [[step, ranks] as const] : []))),
  );
  const shared = [...(bySteps[0]?.keys() ?? [])].filter((step) => bySteps.every((steps) => steps.has(step)));
  const stride = Math.ceil(shared.length / MAX_STEP_COLUMNS);
  return shared
    .filter((_, index) => (shared.length - 1 - index) % stride === 0)
    .map((step) => ({ step, ranks: meanOfSeeds(bySteps.map((steps) => steps.get(step) ?? {})) }));
}

function meanOfSeeds(ofSeeds: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const paths = [...new Set(ofSeeds.flatMap((ranks) => Object.keys(ranks)))];
  const meanOf = (path: string): number => ofSeeds.reduce((sum, ranks) => sum + (ranks[path] ?? 0), 0) / ofSeeds.length;
  return Object.fromEntries(paths.map((path) => [path, meanOf(path)]));
}
