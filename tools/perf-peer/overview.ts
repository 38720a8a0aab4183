/* The table that opens speed.md. */
import { median } from 'simple-statistics';
import type { SizesName } from '../perf/cases.js';
import { PEER_OF } from './decoder-tables.js';
import type { EpochResults, Side, SpeedResults } from './results.js';
import { markdownTable, timesFaster, valuesOf } from './tables.js';

/** What is compared, the precisions, and our side; `PEER_OF` has the other. */
type Row = readonly [title: string, precision: string, ours: keyof typeof PEER_OF];

const SAME = 'float32';
const NEAREST = '8 bits, bfloat16';

const ENCODER: readonly Row[] = [
  ['BERT-base, a step of 8 x 64 tokens', SAME, 'peftjs-fp32'],
  ['', NEAREST, 'peftjs-q8'],
];
const DECODER: readonly Row[] = [
  ['SmolLM2-135M, a step of 1 x 1,024 tokens', SAME, 'peftjs-fp32'],
  ['', NEAREST, 'peftjs-q8'],
  ['the same, layers recomputed', SAME, 'peftjs-fp32-checkpointing'],
  ['', NEAREST, 'peftjs-q8-checkpointing'],
];

/** Returns how fast peftjs is and how much memory its process has, compared with PyTorch: medians over the rounds. */
export function overview(steps: SpeedResults, decoders: SpeedResults, epochs: EpochResults): string {
  const cola = epochs.rounds.filter(({ task }) => task === 'cola').map(({ runs }) => runs);
  const ours = cola.map((runs) => runs['peftjs-fp32']);
  const peers = cola.map((runs) => runs['torch-fp32']);
  const epoch = [
    'MiniLM, an epoch of CoLA',
    SAME,
    median(ours.map((own, round) => (peers[round]?.epochSeconds ?? NaN) / own.epochSeconds)).toFixed(2),
    (peakOf(ours) / peakOf(peers)).toFixed(2),
  ];
  const rows = [...rowsOf(steps, 'bert-base', ENCODER), ...rowsOf(decoders, 'smollm2-135m-1x1024', DECODER), epoch];
  return markdownTable(['', 'precision', 'times faster than PyTorch', "memory, of PyTorch's"], rows);
}

function rowsOf(results: SpeedResults, shape: SizesName, rows: readonly Row[]): string[][] {
  const peak = (side: Side): number => median(valuesOf(results, shape, side, ({ peakRssBytes }) => peakRssBytes));
  return rows.map(([title, precision, ours]) => {
    const peer = PEER_OF[ours];
    const faster = median(timesFaster(results, shape, ours, peer));
    return [title, precision, faster.toFixed(2), (peak(ours) / peak(peer)).toFixed(2)];
  });
}

const peakOf = (runs: readonly { readonly peakRssBytes: number }[]): number =>
  median(runs.map(({ peakRssBytes }) => peakRssBytes));
