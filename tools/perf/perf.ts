import { spawnSync } from 'node:child_process';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { perfCases } from './cases.js';
import { measureCase, type CaseResult } from './measure.js';
import { measurePeak } from './peak.js';

/* npm run perf [-- --json] [-- --only minilm]: step times of this machine, each case in a process of its own. */

const { values: flags } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    threads: { type: 'string', default: String(availableParallelism()) },
    case: { type: 'string' },
    peak: { type: 'string', default: '0' },
  },
});
const threads = Number(flags.threads);

if (flags.case === undefined) await runAll();
else await runOne(flags.case);

async function runAll(): Promise<void> {
  const peak = await measurePeak(threads);
  const { fp32Gflops, int8Gops } = peak;
  say(
    `peak on ${threads} threads: ${fp32Gflops.toFixed(0)} GFLOP/s in float32, ${int8Gops.toFixed(0)} GOP/s in 8 bits\n`,
  );
  const names = perfCases(threads).map(({ name }) => name);
  const cases = names.filter((name) => name.includes(flags.only)).map((name) => inOwnProcess(name, fp32Gflops));
  const machine = {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    node: process.versions.node,
  };
  if (flags.json) process.stdout.write(`${JSON.stringify({ machine, peak, cases })}\n`);
}

function inOwnProcess(name: string, peak: number): CaseResult {
  const script = fileURLToPath(import.meta.url);
  const run = spawnSync(
    process.execPath,
    [...process.execArgv, script, '--case', name, '--peak', String(peak), '--threads', String(threads)],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const result = JSON.parse(run.stdout) as CaseResult;
  say(line(result));
  return result;
}

async function runOne(name: string): Promise<void> {
  const found = perfCases(threads).find((candidate) => candidate.name === name);
  if (!found) throw new RangeError(`no case '${name}'`);
  process.stdout.write(JSON.stringify(await measureCase(found, Number(flags.peak))));
}

function line({ name, shape, stepMedianMs, gflops, efficiency, compileSeconds, peakRssBytes }: CaseResult): string {
  const share = `${(100 * efficiency).toFixed(0)} % of the peak`;
  return `${name.padEnd(24)} ${shape.padEnd(6)} ${stepMedianMs.toFixed(1).padStart(8)} ms  ${gflops.toFixed(0).padStart(4)} GFLOP/s (${share})  compile ${compileSeconds.toFixed(2)} s  ${(peakRssBytes / 2 ** 20).toFixed(0)} MiB\n`;
}

function say(text: string): void {
  process.stderr.write(text);
}
