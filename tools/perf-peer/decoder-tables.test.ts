import { expect, it } from 'vitest';
import type { LengthResults } from '../perf/lengths.js';
import { decoderSection } from './decoder-tables.js';
import type { DecoderRun, Round, SpeedResults } from './results.js';

const run = (seconds: number, gigabytes: number, own: Partial<DecoderRun> = {}): DecoderRun => ({
  stepMedianMs: 1000 * seconds,
  peakRssBytes: 1e9 * (gigabytes + 1),
  stepPeakBytes: 1e9 * gigabytes,
  firstStepSeconds: 2 * seconds,
  firstStepCpuSeconds: 5,
  ...own,
});
const round = (ours: number, theirs: number): Round<DecoderRun> => ({
  shape: 'smollm2-135m-1x1024',
  load: 0.5,
  runs: {
    'peftjs-fp32': run(ours, 1, { graphNodes: 2000 }),
    'torch-fp32': run(theirs, 2, { versions: { torch: '2.15.0' } }),
    'peftjs-q8': run(ours, 0.5, { graphNodes: 3000 }),
    'torch-bf16': run(ours / 2, 2),
  },
});
const large: Round<DecoderRun> = {
  shape: 'qwen3-0.6b-1x1024',
  load: 0.5,
  runs: { 'peftjs-q8-checkpointing': run(3, 1.4), 'torch-bf16-checkpointing': run(3, 4) },
};
const results: SpeedResults<DecoderRun> = {
  cpu: 'a processor',
  threads: 2,
  node: '20.0.0',
  peak: { fp32Gflops: 300, int8Gops: 1500 },
  rounds: [round(1, 1.2), round(1, 1.3), round(2, 2.2), large],
};
const lengths: LengthResults = {
  cpu: 'a processor',
  model: 'smollm2-135m',
  limitBytes: 8e9,
  runs: [
    { setting: 'q8', tokens: 1792, peakRssBytes: 8e9 },
    { setting: 'q8', tokens: 4096, peakRssBytes: null },
    { setting: 'q8-checkpointing', tokens: 1792, peakRssBytes: 1.2e9 },
    { setting: 'q8-checkpointing', tokens: 4096, peakRssBytes: 3e9 },
  ],
};

it('compares each side with its peer of the same round, and says which aims were missed', () => {
  const section = decoderSection(results, lengths);
  const rows = section.split('\n').filter((line) => line.startsWith('| '));
  expect(rows).toEqual([
    expect.stringContaining('| step | times faster than PyTorch |'),
    expect.stringContaining('| --- |'),
    '| peftjs, float32 | 1.00 s | 1.20 (1.10 to 1.30) | 1.00 GB | 0.50 | 2.00 GB | 2.0 s | 5.0 s | 2000 |',
    '| PyTorch + PEFT, float32 | 1.30 s |  | 2.00 GB |  | 3.00 GB | 2.6 s | 5.0 s |  |',
    '| peftjs, frozen base in 8 bits | 1.00 s | 0.50 (0.50 to 0.50) | 0.50 GB | 0.25 | 1.50 GB | 2.0 s | 5.0 s | 3000 |',
    '| PyTorch + PEFT, bfloat16 autocast | 0.50 s |  | 2.00 GB |  | 3.00 GB | 1.0 s | 5.0 s |  |',
    expect.stringContaining('| step |'),
    expect.stringContaining('| --- |'),
    expect.stringContaining('| 3.00 s | 1.00 (1.00 to 1.00) | 1.40 GB | 0.35 | 2.40 GB |'),
    expect.stringContaining('| 3.00 s |  | 4.00 GB |  | 5.00 GB |'),
    '|  | 1,792 tokens | 4,096 tokens |',
    expect.stringContaining('| --- |'),
    '| peftjs, frozen base in 8 bits | 8.00 GB | above 8 GB |',
    '| peftjs, frozen base in 8 bits, layers recomputed | 1.20 GB | 3.00 GB |',
    '| goal | aim | measured |',
    expect.stringContaining('| --- |'),
    '| SmolLM2-135M in 8 bits, one text of 1,792 tokens: peak memory | at most 1.3 GB | 1.2 GB |',
    '| the longest text in 8 GB | at least 8,192 tokens | 4,096 tokens, missed |',
    '| SmolLM2-135M, 1 x 1,024 tokens: float32 against float32 | at least 1.10 times | 1.20 times |',
    '| SmolLM2-135M, 1 x 1,024 tokens: 8 bits against bfloat16 | at least 1.00 times | 0.50 times, missed |',
    '| SmolLM2-135M, 1 x 1,024 tokens: recomputed, float32, against gradient checkpointing | at least 1.10 times | not measured |',
    '| SmolLM2-135M, 1 x 1,024 tokens, float32: processor time that the first step takes beyond a later one | at most 6.0 s | 3.0 s |',
    '| Qwen3-0.6B, 1 x 1,024 tokens, smallest precision: peak memory | at most 2.5 GB | 2.4 GB |',
  ]);
});
