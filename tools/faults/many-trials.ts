import { parseArgs } from 'node:util';
import { manyTrials } from './trials.js';

/*
 *   npx tsx --conditions @peftjs/source tools/faults/many-trials.ts [--trials 200] [--every 4] [--seed 1]
 *
 * Runs many tiny trials over two workers through Redis. Every few seconds (random, with the given mean) a worker is
 * killed by kill -9, and another one started. Exits with 1 unless each trial has one result and was reported once.
 * Takes minutes, and needs redis-server.
 */

const { values: flags } = parseArgs({
  options: {
    trials: { type: 'string', default: '200' },
    every: { type: 'string', default: '4' },
    seed: { type: 'string', default: '1' },
  },
});

const { trials, kills, seconds, exitCode, reported, kept } = await manyTrials({
  trials: Number(flags.trials),
  everySeconds: Number(flags.every),
  seed: Number(flags.seed),
});
const distinct = new Set(reported).size;
process.stdout.write(
  `${trials} trials, ${kept.length} result files, ${reported.length} results reported, ${distinct} of them distinct; ` +
    `${kills} workers killed in ${seconds.toFixed(0)} s; exit code ${exitCode}\n`,
);
if (exitCode !== 0 || [kept.length, reported.length, distinct].some((count) => count !== trials)) process.exitCode = 1;
