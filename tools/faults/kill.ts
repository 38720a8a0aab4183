import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { killAtRandom, TARGETS, undisturbed, type Target } from './kills.js';

/*
 *   npx tsx --conditions @peftjs/source tools/faults/kill.ts [parent|parent-of-queue|worker|redis|forgetful-redis ..] [--kills 10] [--seed 1]
 *
 * kill -9 at random moments. After each kill the same command runs again, or the killed process is restarted, until the
 * study is done. Then its results are compared with those of an undisturbed run. Exits with 1 on any difference. Takes
 * minutes, and needs redis-server.
 */

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { kills: { type: 'string', default: '10' }, seed: { type: 'string', default: '1' } },
});
const targets = positionals.length > 0 ? (positionals as Target[]) : TARGETS;
const options = { kills: Number(flags.kills), seed: Number(flags.seed) };

const folder = await mkdtemp(join(tmpdir(), 'peftjs-faults-'));
try {
  const subject = await undisturbed(folder, { seeds: 2, epochs: 20 });
  say('| killed | kills | rounds | trials each | seconds | differences |');
  say('| ------ | ----- | ------ | ----------- | ------- | ----------- |');
  for (const target of targets) {
    const { kills, rounds, trials, seconds, differences } = await killAtRandom(target, subject, options);
    const wrong = differences.join('; ') || 'none';
    say(`| ${target} | ${kills} | ${rounds} | ${trials} | ${seconds.toFixed(0)} | ${wrong} |`);
    if (differences.length > 0) process.exitCode = 1;
  }
} finally {
  await rm(folder, { recursive: true, force: true });
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
