/*
 * npx tsx --conditions @peftjs/source tools/perf/side-by-side.ts [--case minilm-lora-fp32] [--rounds 3]
 *
 * Measures how much more work two single-threaded trials do on two cores than one alone: the steps per second of both
 * over those of one.
 */
import { parseArgs } from 'node:util';
import { median } from 'simple-statistics';
import { perfCases } from './cases.js';
import { measured, withModels } from './own-process.js';

const { values: flags } = parseArgs({
  options: { case: { type: 'string', default: 'minilm-lora-fp32' }, rounds: { type: 'string', default: '3' } },
});
const found = perfCases(1).find(({ name }) => name === flags.case);
if (!found) throw new RangeError(`no case '${flags.case}'`);

await withModels(async (models) => {
  const stepsPerSecond = async (): Promise<number> => 1000 / (await measured(found, models)).stepMedianMs;
  const ratios: number[] = [];
  for (let round = 0; round < Number(flags.rounds); round++) {
    const alone = await stepsPerSecond();
    const both = await Promise.all([stepsPerSecond(), stepsPerSecond()]);
    ratios.push(both.reduce((sum, rate) => sum + rate, 0) / alone);
  }
  console.log(
    `${flags.case}: two do ${median(ratios).toFixed(2)} times the work of one (${ratios.map((r) => r.toFixed(2)).join(', ')})`,
  );
});
