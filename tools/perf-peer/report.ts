/*
 * npx tsx --conditions @peftjs/source tools/perf-peer/report.ts [--results docs/benchmarks/results/speed] [--page docs/benchmarks/speed.md]
 *
 * Writes the table of speed.json into the page, between its marks, and the chart beside speed.json.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { max, median, min } from 'simple-statistics';
import { compared, type ComparedShape, type Round, type Run, type Side, type SpeedResults } from './results.js';
import { speedChart } from './speed-chart.js';

const NAMES: Readonly<Record<Side, string>> = {
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

const { values: flags } = parseArgs({
  options: {
    results: { type: 'string', default: 'docs/benchmarks/results/speed' },
    page: { type: 'string', default: 'docs/benchmarks/speed.md' },
  },
});
const results = JSON.parse(await readFile(`${flags.results}/speed.json`, 'utf8')) as SpeedResults;
const shapes = (Object.keys(compared) as ComparedShape[]).filter((shape) => roundsOf(shape).length > 0);
const text = await readFile(flags.page, 'utf8');
await writeFile(flags.page, withTable(text, [...shapes.map(table), stateOf(results)].join('\n\n')));
await writeFile(
  `${flags.results}/speed.svg`,
  speedChart(
    shapes.map((shape) => ({
      title: SHAPES[shape],
      bars: compared[shape].map((side) => ({
        label: NAMES[side],
        milliseconds: median(of(shape, side, ({ stepMedianMs }) => stepMedianMs)),
        isOurs: side.startsWith('peftjs'),
      })),
    })),
  ),
);

function roundsOf(shape: ComparedShape): Round[] {
  return results.rounds.filter((round) => round.shape === shape);
}

/** One number of a side, round by round. */
function of(shape: ComparedShape, side: Side, value: (run: Run) => number): number[] {
  return roundsOf(shape).map(({ runs }) => value(runs[side] as Run));
}

function table(shape: ComparedShape): string {
  const rows = compared[shape].map((side) => {
    const steps = of(shape, side, ({ stepMedianMs }) => stepMedianMs);
    const memory = median(of(shape, side, ({ peakRssBytes }) => peakRssBytes));
    const start = median(of(shape, side, ({ startSeconds }) => startSeconds));
    return [
      NAMES[side],
      `${median(steps).toFixed(0)} ms`,
      ...(['torch-fp32', 'torch-bf16'] as const).map((peer) => ratio(shape, side, peer)),
      `${(memory / 1e9).toFixed(2)} GB`,
      `${start.toFixed(1)} s`,
    ];
  });
  const head = ['', 'step', 'times faster than PyTorch float32', '.. than bfloat16', 'peak memory', 'to start'];
  const lines = [head, ['---', ...Array<string>(5).fill('--:')], ...rows].map((cells) => `| ${cells.join(' | ')} |`);
  return [`**${SHAPES[shape]}**`, '', ...lines].join('\n');
}

/** How much faster a side is than a peer of the same round: the median, and the least and the most of all rounds. */
function ratio(shape: ComparedShape, side: Side, peer: Side): string {
  if (side === peer) return '1';
  const own = of(shape, side, ({ stepMedianMs }) => stepMedianMs);
  const ratios = of(shape, peer, ({ stepMedianMs }) => stepMedianMs).map(
    (other, round) => other / (own[round] as number),
  );
  return `${median(ratios).toFixed(2)} (${min(ratios).toFixed(2)} to ${max(ratios).toFixed(2)})`;
}

function stateOf({ cpu, threads, node, peak, rounds }: SpeedResults): string {
  const loads = rounds.map(({ load }) => load);
  const versions = rounds.flatMap(({ runs }) => Object.values(runs)).find((run) => run.versions)?.versions ?? {};
  const peers = Object.entries(versions).map(([name, version]) => `${name} ${version}`);
  const peaks = `${peak.fp32Gflops.toFixed(0)} GFLOP/s in float32, ${peak.int8Gops.toFixed(0)} GOP/s in 8 bits`;
  return `Processor: ${cpu}, ${threads} threads (${peaks}). Node ${node}; ${peers.join(', ')}. Load of the machine before a round: ${min(loads).toFixed(1)} to ${max(loads).toFixed(1)}.`;
}

/** The page with a new table between its marks, which Prettier leaves as it is. @throws RangeError when it has no marks. */
function withTable(page: string, content: string): string {
  const [start, end] = ['<!-- prettier-ignore-start -->', '<!-- prettier-ignore-end -->'];
  const [before, rest] = page.split(start);
  const after = rest?.split(end)[1];
  if (before === undefined || after === undefined) throw new RangeError(`${flags.page} has no marks for the table`);
  return `${before}${start}\n\n${content}\n\n${end}${after}`;
}
