/*
 * npx tsx --conditions @peftjs/source tools/perf/side-by-side.ts [--case minilm-lora-fp32] [--rounds 3]
 *
 * Measures how much more work two single-threaded trials do on two cores than one alone: the steps per second of both
 * over those of one.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { median } from 'simple-statistics';
import { perfCases, writeCheckpoint } from './cases.js';
import type { CaseResult } from './measure.js';

const { values: flags } = parseArgs({
  options: { case: { type: 'string', default: 'minilm-lora-fp32' }, rounds: { type: 'string', default: '3' } },
});
const model = perfCases(1, 1).find(({ name }) => name === flags.case)?.model;
if (model === undefined || model === 'use-lite') throw new RangeError(`no case '${flags.case}' of an encoder`);

const folder = await mkdtemp(join(tmpdir(), 'peftjs-side-'));
try {
  await writeCheckpoint(model, folder);
  const ratios: number[] = [];
  for (let round = 0; round < Number(flags.rounds); round++) {
    const alone = await stepsPerSecond();
    const both = await Promise.all([stepsPerSecond(), stepsPerSecond()]);
    ratios.push(both.reduce((sum, rate) => sum + rate, 0) / alone);
  }
  console.log(
    `${flags.case}: two do ${median(ratios).toFixed(2)} times the work of one (${ratios.map((r) => r.toFixed(2)).join(', ')})`,
  );
} finally {
  await rm(folder, { recursive: true });
}

async function stepsPerSecond(): Promise<number> {
  const script = fileURLToPath(new URL('perf.ts', import.meta.url));
  const args = [...process.execArgv, script, '--case', flags.case, '--model', folder, '--threads', '1'];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  return 1000 / (JSON.parse(stdout) as CaseResult).stepMedianMs;
}
