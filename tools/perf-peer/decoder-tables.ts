/* The section of speed.md on language models: decoders.json and lengths.json, and whether their aims were met. */
import { median } from 'simple-statistics';
import { sizes, type SettingName } from '../perf/cases.js';
import type { LengthResults } from '../perf/lengths.js';
import { compared, type DecoderRun, type Side, type SpeedResults } from './results.js';
import { markdownTable, SIDE_NAMES, spread, stateOf, timesFaster, valuesOf } from './tables.js';

type DecoderResults = SpeedResults<DecoderRun>;
type DecoderSizes = keyof typeof compared.decoders;

const TITLES: Readonly<Record<DecoderSizes, string>> = {
  'smollm2-135m-1x1024': 'SmolLM2-135M, 1 x 1,024 tokens',
  'smollm2-135m-4x512': 'SmolLM2-135M, 4 x 512 tokens',
  'smollm2-135m-8x128': 'SmolLM2-135M, 8 x 128 tokens',
  'qwen3-0.6b-1x1024': 'Qwen3-0.6B, 1 x 1,024 tokens',
  'qwen3-0.6b-4x128': 'Qwen3-0.6B, 4 x 128 tokens',
};

/** The side of PyTorch that each of ours is compared with: the same setting, or the nearest. */
export const PEER_OF = {
  'peftjs-fp32': 'torch-fp32',
  'peftjs-q8': 'torch-bf16',
  'peftjs-fp32-checkpointing': 'torch-fp32-checkpointing',
  'peftjs-q8-checkpointing': 'torch-bf16-checkpointing',
  'peftjs-q4-checkpointing': 'torch-bf16-checkpointing',
} as const satisfies Partial<Record<Side, Side>>;

const ABOUT = `## Language models at real lengths

LoRA of rank 8 on all linear modules, AdamW, clipped gradients; random weights of the named model's shape, random tokens without padding.
PyTorch has fused attention (SDPA). Each of our sides is compared with the side of PyTorch in the same or the nearest setting: 8 bits with
bfloat16, recomputed layers (\`gradientCheckpointing: true\`) with gradient checkpointing. _Memory of a step_ is the peak of training above
the process with the loaded model.`;

/** Returns the section: a table for each size, the peak memory by length if measured, and the aims. */
export function decoderSection(results: DecoderResults, lengths?: LengthResults): string {
  const measured = (Object.keys(compared.decoders) as DecoderSizes[]).filter((name) =>
    results.rounds.some(({ shape }) => shape === name),
  );
  return [
    ABOUT,
    ...measured.flatMap((name) => [`**${TITLES[name]}**`, sizeTable(results, name)]),
    stateOf(results),
    ...(lengths ? [lengthsText(lengths)] : []),
    aimTable(results, lengths),
  ].join('\n\n');
}

function sizeTable(results: DecoderResults, name: DecoderSizes): string {
  const of = (side: Side, value: (run: DecoderRun) => number): number => median(valuesOf(results, name, side, value));
  const sides = compared.decoders[name].filter((side) => valuesOf(results, name, side, () => 0).length > 0);
  const peers: Readonly<Partial<Record<Side, Side>>> = PEER_OF;
  const rows = sides.map((side) => {
    const peer = peers[side];
    const hasPeer = peer !== undefined && (sides as readonly Side[]).includes(peer);
    const stepPeak = of(side, ({ stepPeakBytes }) => stepPeakBytes);
    return [
      SIDE_NAMES[side],
      `${(of(side, ({ stepMedianMs }) => stepMedianMs) / 1000).toFixed(2)} s`,
      hasPeer ? spread(timesFaster(results, name, side, peer)) : '',
      gigabytes(stepPeak),
      hasPeer ? (stepPeak / of(peer, ({ stepPeakBytes }) => stepPeakBytes)).toFixed(2) : '',
      gigabytes(of(side, ({ peakRssBytes }) => peakRssBytes)),
      `${of(side, ({ firstStepSeconds }) => firstStepSeconds).toFixed(1)} s`,
      `${of(side, ({ firstStepCpuSeconds }) => firstStepCpuSeconds).toFixed(1)} s`,
      peer === undefined ? '' : of(side, ({ graphNodes = NaN }) => graphNodes).toFixed(0),
    ];
  });
  const memory = ['memory of a step', "of PyTorch's", 'peak memory'];
  const head = ['', 'step', 'times faster than PyTorch', ...memory, 'first step', 'its processor time', 'nodes'];
  return markdownTable(head, rows);
}

function lengthsText({ model, cpu, limitBytes, runs }: LengthResults): string {
  const names = [...new Set(runs.map(({ setting }) => setting))];
  const tokens = [...new Set(runs.map((run) => run.tokens))].sort((a, b) => a - b);
  const cell = (setting: SettingName, length: number): string => {
    const found = runs.find((run) => run.setting === setting && run.tokens === length);
    return found && found.peakRssBytes !== null ? gigabytes(found.peakRssBytes) : `above ${gigabytes(limitBytes, 0)}`;
  };
  const rows = names.map((setting) => [
    SIDE_NAMES[`peftjs-${setting}`],
    ...tokens.map((length) => cell(setting, length)),
  ]);
  const head = ['', ...tokens.map((length) => `${grouped(length)} tokens`)];
  const title = `Peak memory of the process, ${model}, one text (${cpu}):`;
  return [title, markdownTable(head, rows)].join('\n\n');
}

/** What was to be reached, and what was. */
interface Aim {
  readonly goal: string;
  /** What was measured; undefined if it was not. */
  readonly value: number | undefined;
  readonly aim: number;
  readonly isLower: boolean;
  readonly shown: (value: number) => string;
}

function aimTable(results: DecoderResults, lengths: LengthResults | undefined): string {
  const rows = aimsOf(results, lengths).map(({ goal, value, aim, isLower, shown }) => {
    const isMet = value !== undefined && (isLower ? value <= aim : value >= aim);
    const measured = value === undefined ? 'not measured' : `${shown(value)}${isMet ? '' : ', missed'}`;
    return [goal, `${isLower ? 'at most' : 'at least'} ${shown(aim)}`, measured];
  });
  return markdownTable(['goal', 'aim', 'measured'], rows);
}

function aimsOf(results: DecoderResults, lengths: LengthResults | undefined): Aim[] {
  const long = 'smollm2-135m-1x1024';
  const isLong = `SmolLM2-135M, 1 x ${grouped(sizes[long].batch[1])} tokens`;
  const faster = (what: string, side: Side, peer: Side, aim: number): Aim => ({
    goal: `${isLong}: ${what}`,
    value: middle(timesFaster(results, long, side, peer)),
    aim,
    isLower: false,
    shown: (times) => `${times.toFixed(2)} times`,
  });
  const lowest = (goal: string, value: number | undefined, aim: number, unit: 'GB' | 's'): Aim => {
    return { goal, value, aim, isLower: true, shown: (each) => `${each.toFixed(1)} ${unit}` };
  };
  return [
    lowest('SmolLM2-135M in 8 bits, one text of 1,792 tokens: peak memory', peakAt(1792, lengths), 1.3, 'GB'),
    {
      goal: 'the longest text in 8 GB',
      value: longest(8e9, lengths),
      aim: 8192,
      isLower: false,
      shown: (tokens) => `${grouped(tokens)} tokens`,
    },
    faster('float32 against float32', 'peftjs-fp32', 'torch-fp32', 1.1),
    faster('8 bits against bfloat16', 'peftjs-q8', 'torch-bf16', 1),
    faster(
      'recomputed, float32, against gradient checkpointing',
      'peftjs-fp32-checkpointing',
      'torch-fp32-checkpointing',
      1.1,
    ),
    lowest(
      `${isLong}, float32: processor time that the first step takes beyond a later one`,
      middle(
        valuesOf(results, long, 'peftjs-fp32', ({ firstStepCpuSeconds, stepMedianMs }) => {
          return firstStepCpuSeconds - (results.threads * stepMedianMs) / 1000;
        }),
      ),
      6,
      's',
    ),
    lowest('Qwen3-0.6B, 1 x 1,024 tokens, smallest precision: peak memory', smallest(results), 2.5, 'GB'),
  ];
}

/** Returns the least peak memory of our sides on the large decoder, in GB. */
function smallest(results: DecoderResults): number | undefined {
  const size = 'qwen3-0.6b-1x1024';
  const peaks = compared.decoders[size]
    .filter((side) => side.startsWith('peftjs'))
    .flatMap((side) => middle(valuesOf(results, size, side, ({ peakRssBytes }) => peakRssBytes)) ?? []);
  return peaks.length === 0 ? undefined : Math.min(...peaks) / 1e9;
}

/** Returns the least peak memory of a text of a length in 8 bits, in GB. */
function peakAt(tokens: number, lengths?: LengthResults): number | undefined {
  const peaks = (lengths?.runs ?? [])
    .filter((run) => run.tokens === tokens && run.setting.startsWith('q8'))
    .flatMap(({ peakRssBytes }) => peakRssBytes ?? []);
  return peaks.length === 0 ? undefined : Math.min(...peaks) / 1e9;
}

/** Returns the most tokens of a text that was trained on within a limit. */
function longest(limitBytes: number, lengths?: LengthResults): number | undefined {
  const within = (lengths?.runs ?? []).filter(({ peakRssBytes }) => (peakRssBytes ?? Infinity) <= limitBytes);
  return within.length === 0 ? undefined : Math.max(...within.map(({ tokens }) => tokens));
}

function middle(values: number[]): number | undefined {
  return values.length === 0 ? undefined : median(values);
}

function gigabytes(bytes: number, digits = 2): string {
  return `${(bytes / 1e9).toFixed(digits)} GB`;
}

function grouped(count: number): string {
  return count.toLocaleString('en');
}
