import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { killAtRandom, TARGETS, undisturbed, undisturbedTraining, type Subject, type Target } from './kills.js';

/*
 *   npx tsx --conditions @peftjs/source tools/faults/kill.ts [parent|parent-of-queue|worker|redis|forgetful-redis|train ..] [--kills 10] [--seed 1]
 *
 * kill -9 at random moments. After each kill the same command runs again, or the killed process is restarted, until the
 * study or the training is done. Then its results, or the adapter's files, are compared with those of an undisturbed
 * run. Exits with 1 on any difference. Takes minutes, and needs redis-server for what has a queue.
 */

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { kills: { type: 'string', default: '10' }, seed: { type: 'string', default: '1' } },
});
const targets = positionals.length > 0 ? (positionals as Target[]) : TARGETS;
const options = { kills: Number(flags.kills), seed: Number(flags.seed) };

const folder = await mkdtemp(join(tmpdir(), 'peftjs-faults-'));
try {
  let study: Promise<Subject> | undefined;
  const subjectOf = (target: Target): Promise<Subject> =>
    target === 'train'
      ? undisturbedTraining(join(folder, 'train'), { epochs: 12 })
      : (study ??= undisturbed(join(folder, 'study'), { seeds: 2, epochs: 20 }));
  say('| killed | kills | rounds | files each | seconds | differences |');
  say('| ------ | ----- | ------ | ---------- | ------- | ----------- |');
  for (const target of targets) {
    const { kills, rounds, files, seconds, differences } = await killAtRandom(target, await subjectOf(target), options);
    const wrong = differences.join('; ') || 'none';
    say(`| ${target} | ${kills} | ${rounds} | ${files} | ${seconds.toFixed(0)} | ${wrong} |`);
    if (differences.length > 0) process.exitCode = 1;
  }
} finally {
  await rm(folder, { recursive: true, force: true });
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
