import { readFile, writeFile } from 'node:fs/promises';
import { format, type FormatConfig } from 'oxfmt';
import { max, mean, median, min } from 'simple-statistics';
import type { SizesName } from '../perf/cases.js';
import type { CaseResult } from '../perf/measure.js';
import { peakText, type Peak } from '../perf/peak.js';
import type { PrecisionResults } from '../perf/precisions.js';
import type { Kind, Profile, Share } from '../perf/profile.js';
import {
  compared,
  EPOCH_SIDES,
  EPOCH_TASKS,
  type EpochResults,
  type EpochRun,
  type EpochSide,
  type Run,
  type Side,
  type SpeedResults,
} from './results.js';

/** The name of each side in tables and charts. */
export const SIDE_NAMES: Readonly<Record<Side, string>> = {
  'peftjs-fp32': 'peftjs, float32',
  'peftjs-q8': 'peftjs, frozen base in 8 bits',
  'torch-fp32': 'PyTorch + PEFT, float32',
  'torch-bf16': 'PyTorch + PEFT, bfloat16 autocast',
  'torch-compile': 'PyTorch + PEFT, torch.compile',
  'peftjs-fp32-checkpointing': 'peftjs, float32, layers recomputed',
  'peftjs-q8-checkpointing': 'peftjs, frozen base in 8 bits, layers recomputed',
  'peftjs-q4-checkpointing': 'peftjs, frozen base in 4 bits, layers recomputed',
  'torch-fp32-checkpointing': 'PyTorch + PEFT, float32, gradient checkpointing',
  'torch-bf16-checkpointing': 'PyTorch + PEFT, bfloat16 autocast, gradient checkpointing',
};

/** A size of the group of encoders. */
type EncoderSizes = keyof typeof compared.encoders;

const SHAPES: Readonly<Record<EncoderSizes, string>> = {
  minilm: 'MiniLM, 16 x 64 tokens',
  'bert-base': 'BERT-base, 8 x 64 tokens',
};

/** Returns a table for each shape, and a line on the machine. */
export function stepTables(results: SpeedResults): string {
  return [...shapesOf(results).map((shape) => stepTable(results, shape)), stateOf(results)].join('\n\n');
}

/** Returns the median steps as groups of bars for the chart. */
export function stepGroups(results: SpeedResults): SpeedGroup[] {
  return shapesOf(results).map((shape) => ({
    title: SHAPES[shape],
    bars: sidesOf(results, shape).map((side) => ({
      label: SIDE_NAMES[side],
      milliseconds: median(valuesOf(results, shape, side, stepMs)),
      isOurs: side.startsWith('peftjs'),
    })),
  }));
}

/** Returns the median of ratios, with the smallest and largest. */
export function spread(ratios: readonly number[]): string {
  const values = [...ratios];
  return `${median(values).toFixed(2)} (${min(values).toFixed(2)} to ${max(values).toFixed(2)})`;
}

function shapesOf({ rounds }: SpeedResults): EncoderSizes[] {
  return (Object.keys(compared.encoders) as EncoderSizes[]).filter((shape) =>
    rounds.some((round) => round.shape === shape),
  );
}

/** The sides that the others are compared with, if they were run. */
const PEERS = ['torch-fp32', 'torch-bf16'] as const satisfies readonly Side[];

/** Returns the sides that were run. */
function sidesOf({ rounds }: SpeedResults, shape: EncoderSizes): Side[] {
  const own = rounds.filter((round) => round.shape === shape);
  return compared.encoders[shape].filter((side) => own.every(({ runs }) => runs[side] !== undefined));
}

function stepTable(results: SpeedResults, shape: EncoderSizes): string {
  const sides = sidesOf(results, shape);
  const peers = PEERS.filter((peer) => sides.includes(peer));
  const rows = sides.map((side) => {
    const memory = median(valuesOf(results, shape, side, ({ peakRssBytes }) => peakRssBytes));
    const start = median(valuesOf(results, shape, side, ({ firstStepSeconds }) => firstStepSeconds));
    return [
      SIDE_NAMES[side],
      `${median(valuesOf(results, shape, side, stepMs)).toFixed(0)} ms`,
      ...peers.map((peer) => ratios(results, shape, side, peer)),
      `${(memory / 1e9).toFixed(2)} GB`,
      (memory / median(valuesOf(results, shape, 'torch-fp32', ({ peakRssBytes }) => peakRssBytes))).toFixed(2),
      `${start.toFixed(1)} s`,
    ];
  });
  const head = [
    'step',
    ...['times faster than float32', 'than bfloat16'].slice(0, peers.length),
    'peak memory',
    'of PyTorch float32',
    'first step',
  ];
  return [`**${SHAPES[shape]}**`, markdownTable(['', ...head], rows)].join('\n\n');
}

/** Returns how many times faster a side is than a peer of the same round. */
function ratios(results: SpeedResults, shape: EncoderSizes, side: Side, peer: Side): string {
  if (side === peer) return '1';
  return spread(timesFaster(results, shape, side, peer));
}

/** Returns how many times faster a side is than a peer in each round. */
export function timesFaster(results: SpeedResults, shape: SizesName, side: Side, peer: Side): number[] {
  return results.rounds
    .filter((round) => round.shape === shape)
    .flatMap(({ runs: { [side]: own, [peer]: other } }) => (own && other ? other.stepMedianMs / own.stepMedianMs : []));
}

const stepMs = ({ stepMedianMs }: Run): number => stepMedianMs;

/** Returns one number of a side for each round that has a run of it. */
export function valuesOf<R extends Run>(
  { rounds }: SpeedResults<R>,
  shape: SizesName,
  side: Side,
  value: (run: R) => number,
): number[] {
  const runs = rounds.filter((round) => round.shape === shape).flatMap((round) => round.runs[side] ?? []);
  return runs.map(value);
}

export function stateOf({ cpu, threads, node, peak, rounds }: SpeedResults): string {
  const loads = rounds.map(({ load }) => load);
  const versions = rounds.flatMap(({ runs }) => Object.values(runs)).find((run) => run.versions)?.versions ?? {};
  const peers = Object.entries(versions).map(([name, version]) => `${name} ${version}`);
  return `Processor: ${cpu}, ${threads} threads (${peakText(peak)}). Node ${node}; ${peers.join(', ')}. Load of the machine before a round: ${min(loads).toFixed(1)} to ${max(loads).toFixed(1)}.`;
}

/** The output of `npm run perf -- --json`. */
export interface PerfResults {
  /** The machine: processor, cores, memory in bytes and version of Node. */
  readonly machine: {
    readonly cpu: string;
    readonly cores: number;
    readonly memoryBytes: number;
    readonly node: string;
  };
  /** The machine's best rates of matrix products. */
  readonly peak: Peak;
  /** The result of every case. */
  readonly cases: readonly CaseResult[];
}

/** Returns the table of every case of `npm run perf`, and a line on the machine. */
export function caseTables({ machine, peak, cases }: PerfResults): string {
  const rows = cases.map((one) => [
    one.name,
    one.shape,
    `${one.stepMedianMs.toFixed(0)} ms`,
    `${(100 * one.efficiency).toFixed(0)} %`,
    one.tokensPerSecond.toFixed(0),
    `${(one.peakRssBytes / 1e9).toFixed(2)} GB`,
    `${one.loadSeconds.toFixed(1)} s`,
    `${one.compileSeconds.toFixed(1)} s`,
    `${((1000 * one.firstStepSeconds) / one.stepMedianMs).toFixed(1)} steps`,
  ]);
  const head = ['case', 'batch', 'step', 'of the peak', 'tokens/s', 'peak memory', 'load', 'compile', 'first step'];
  const { cpu, cores, memoryBytes, node } = machine;
  const state = `Processor: ${cpu}, ${cores} cores, ${(memoryBytes / 2 ** 30).toFixed(0)} GiB; peak of a product: ${peakText(peak)}. Node ${node}.`;
  return [markdownTable(head, rows), state].join('\n\n');
}

const TASKS = { cola: 'CoLA', sst2: 'SST-2, first 10,000 rows' } as const;

/** Returns the table of every task's epochs, one row per side. */
export function epochTable({ rounds }: EpochResults): string {
  const rows = EPOCH_TASKS.flatMap((task) => {
    const own = rounds.filter((round) => round.task === task);
    const of = (side: EpochSide, value: (run: EpochRun) => number): number[] =>
      own.map(({ runs }) => value(runs[side]));
    return EPOCH_SIDES.map((side) => {
      const seconds = of(side, ({ epochSeconds }) => epochSeconds);
      const peer = of('torch-fp32', ({ epochSeconds }) => epochSeconds);
      return [
        `${TASKS[task]}: ${SIDE_NAMES[side]}`,
        `${median(seconds).toFixed(1)} s`,
        side === 'torch-fp32' ? '1' : spread(peer.map((other, round) => other / (seconds[round] as number))),
        `${(100 * median(of(side, ({ paddingShare }) => paddingShare))).toFixed(0)} %`,
        `${(median(of(side, ({ peakRssBytes }) => peakRssBytes)) / 1e9).toFixed(2)} GB`,
        `${median(of(side, ({ steps }) => steps))}`,
      ];
    });
  });
  return markdownTable(['', 'epoch', 'times faster than PyTorch', 'padding', 'peak memory', 'steps'], rows);
}

/** Returns the table of both precisions for each task, and their difference with its 95 % interval. */
export function precisionTable({ tasks, difference }: PrecisionResults): string {
  const rows = tasks.map(({ task, metric, fp32, q8, difference: own }) => [
    task,
    metric,
    String(fp32.length),
    mean([...fp32]).toFixed(4),
    mean([...q8]).toFixed(4),
    interval(own),
  ]);
  const pairs = tasks.reduce((sum, { fp32 }) => sum + fp32.length, 0);
  const all = ['**all**', '', `${pairs}`, '', '', `**${interval(difference)}**`];
  const head = ['task', 'metric', 'seeds', 'float32', '8 bits', 'difference (95 %)'];
  return markdownTable(head, [...rows, all]);
}

function interval({ mean: centre, low, high }: PrecisionResults['difference']): string {
  return `${signed(centre)} (${signed(low)} to ${signed(high)})`;
}

function signed(value: number): string {
  return `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(4)}`;
}

const KINDS: readonly Kind[] = ['frozen products', 'attention', 'adapters and head', 'no product'];
/** The number of operators without a matrix product in the table. */
const NAMED = 6;

/** Returns the table of where each profiled step spends its time, and a line on the processor. */
export function profileTable(profiles: readonly Profile[]): string {
  const head = profiles.map(({ shape, dtype }) => `${shape}, ${dtype}`);
  const kinds = KINDS.map((kind) => [
    kind,
    ...profiles.map(({ shares }) => cell(shares.filter((each) => each.kind === kind))),
  ]);
  const operators = costliest(profiles).map((name) => [
    `- ${name}`,
    ...profiles.map(({ shares }) =>
      cell(shares.filter(({ kind, operator }) => kind === 'no product' && operator === name)),
    ),
  ]);
  const cpus = [...new Set(profiles.map(({ cpu, threads }) => `${cpu}, ${threads} threads`))].join('; ');
  return [markdownTable(['', ...head], [...kinds, ...operators]), `Processor: ${cpus}.`].join('\n\n');
}

function cell(shares: readonly Share[]): string {
  return `${(100 * shares.reduce((sum, { share }) => sum + share, 0)).toFixed(1)} %`;
}

/** Returns the operators without a matrix product that take the most time over all steps. */
function costliest(profiles: readonly Profile[]): string[] {
  const sums = new Map<string, number>();
  for (const { kind, operator, share } of profiles.flatMap(({ shares }) => shares)) {
    if (kind === 'no product') sums.set(operator, (sums.get(operator) ?? 0) + share);
  }
  return [...sums]
    .sort(([, a], [, b]) => b - a)
    .slice(0, NAMED)
    .map(([name]) => name);
}

/** One side's median step, as a bar of the chart. */
interface SpeedBar {
  readonly label: string;
  readonly milliseconds: number;
  readonly isOurs: boolean;
}

/** The bars of one shape. */
interface SpeedGroup {
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

/** Returns an SVG of horizontal bars, one group below the other, each on its own scale from 0. */
export function speedChart(groups: readonly SpeedGroup[]): string {
  const heights = groups.map(({ bars }) => TITLE + bars.length * STEP);
  const height = heights.reduce((sum, each) => sum + each, 16);
  const tops = heights.map((_, index) => heights.slice(0, index).reduce((sum, each) => sum + each, 0));
  return svgOf(
    WIDTH,
    height,
    groups.map((group, index) => groupOf(group, tops[index] as number)),
  );
}

/** Returns an SVG of marks on white. */
export function svgOf(width: number, height: number, marks: readonly string[]): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="14">`,
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    ...marks,
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

/**
 * Puts each text between the marks of its name in a Markdown page: `<!-- name:begin -->` and `<!-- name:end -->`.
 * @throws RangeError naming the marks that the page lacks.
 */
export async function writeInto(page: string, texts: Readonly<Record<string, string>>): Promise<void> {
  const before = await readFile(page, 'utf8');
  const after = Object.entries(texts).reduce((whole, [name, text]) => between(whole, page, name, text), before);
  const style = JSON.parse(await readFile('.oxfmtrc.json', 'utf8')) as FormatConfig;
  const { code } = await format(page, after, style);
  await writeFile(page, code);
}

function between(whole: string, page: string, name: string, text: string): string {
  const [begin, end] = [`<!-- ${name}:begin -->`, `<!-- ${name}:end -->`];
  const [start, stop] = [whole.indexOf(begin), whole.indexOf(end)];
  if (start < 0 || stop < start) throw new RangeError(`${page} has no ${begin} with an ${end} after it`);
  return `${whole.slice(0, start + begin.length)}\n\n${text}\n\n${whole.slice(stop)}`;
}

/** Returns a Markdown table with the first column aligned left and the others right. */
export function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const align = head.map((_, column) => (column === 0 ? '---' : '--:'));
  return [head, align, ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}
