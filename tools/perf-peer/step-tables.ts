import { max, median, min } from 'simple-statistics';
import { peakText } from '../perf/peak-text.js';
import { markdownTable } from './page.js';
import { compared, type ComparedShape, type Round, type Run, type Side, type SpeedResults } from './results.js';
import type { SpeedGroup } from './speed-chart.js';

/** What a side is called. */
export const SIDE_NAMES: Readonly<Record<Side, string>> = {
  'peftjs-fp32': 'peftjs, float32',
  'peftjs-q8': 'peftjs, frozen base in 8 bits',
  'torch-fp32': 'PyTorch + PEFT, float32',
  'torch-bf16': 'PyTorch + PEFT, bfloat16 autocast',
  'torch-compile': 'PyTorch + PEFT, torch.compile',
};

const SHAPES: Readonly<Record<ComparedShape, string>> = {
  minilm: 'MiniLM, 16 x 64 tokens',
  'bert-base': 'BERT-base, 8 x 64 tokens',
};

/** A table for each shape, and the machine. */
export function stepTables(results: SpeedResults): string {
  return [...shapesOf(results).map((shape) => stepTable(results, shape)), stateOf(results)].join('\n\n');
}

/** The median steps, to be drawn. */
export function stepGroups(results: SpeedResults): SpeedGroup[] {
  return shapesOf(results).map((shape) => ({
    title: SHAPES[shape],
    bars: sidesOf(results, shape).map((side) => ({
      label: SIDE_NAMES[side],
      milliseconds: median(stepsOf(results, shape, side)),
      isOurs: side.startsWith('peftjs'),
    })),
  }));
}

/** The median of ratios, and the least and the most of them. */
export function spread(ratios: readonly number[]): string {
  const values = [...ratios];
  return `${median(values).toFixed(2)} (${min(values).toFixed(2)} to ${max(values).toFixed(2)})`;
}

function shapesOf({ rounds }: SpeedResults): ComparedShape[] {
  return (Object.keys(compared) as ComparedShape[]).filter((shape) => rounds.some((round) => round.shape === shape));
}

/** What others are compared with, where it was run. */
const PEERS = ['torch-fp32', 'torch-bf16'] as const satisfies readonly Side[];

/** The sides that were run. */
function sidesOf({ rounds }: SpeedResults, shape: ComparedShape): Side[] {
  const own = rounds.filter((round) => round.shape === shape);
  return compared[shape].filter((side) => own.every(({ runs }) => runs[side] !== undefined));
}

function stepTable(results: SpeedResults, shape: ComparedShape): string {
  const sides = sidesOf(results, shape);
  const peers = PEERS.filter((peer) => sides.includes(peer));
  const rows = sides.map((side) => {
    const memory = median(valuesOf(results, shape, side, ({ peakRssBytes }) => peakRssBytes));
    const start = median(valuesOf(results, shape, side, ({ startSeconds }) => startSeconds));
    return [
      SIDE_NAMES[side],
      `${median(stepsOf(results, shape, side)).toFixed(0)} ms`,
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

/** How much faster a side is than a peer of the same round. */
function ratios(results: SpeedResults, shape: ComparedShape, side: Side, peer: Side): string {
  if (side === peer) return '1';
  const own = stepsOf(results, shape, side);
  return spread(stepsOf(results, shape, peer).map((other, round) => other / (own[round] as number)));
}

function stepsOf(results: SpeedResults, shape: ComparedShape, side: Side): number[] {
  return valuesOf(results, shape, side, ({ stepMedianMs }) => stepMedianMs);
}

/** One number of a side, round by round. */
function valuesOf({ rounds }: SpeedResults, shape: ComparedShape, side: Side, value: (run: Run) => number): number[] {
  const own = rounds.filter((round: Round) => round.shape === shape);
  return own.map(({ runs }) => value(runs[side] as Run));
}

function stateOf({ cpu, threads, node, peak, rounds }: SpeedResults): string {
  const loads = rounds.map(({ load }) => load);
  const versions = rounds.flatMap(({ runs }) => Object.values(runs)).find((run) => run.versions)?.versions ?? {};
  const peers = Object.entries(versions).map(([name, version]) => `${name} ${version}`);
  return `Processor: ${cpu}, ${threads} threads (${peakText(peak)}). Node ${node}; ${peers.join(', ')}. Load of the machine before a round: ${min(loads).toFixed(1)} to ${max(loads).toFixed(1)}.`;
}
