import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { drawn } from '../../tests/fuzz/drawn.js';
import { temporaryFolder } from '../vitest/temporary-folder.js';
import { killAtRandom, undisturbed, undisturbedTraining, type Subject, type Target } from './kills.js';
import { hasRedis } from './redis.js';
import { manyTrials } from './trials.js';

const withoutRedis = hasRedis ? '' : ' (skipped: redis-server is not installed)';

const TRAININGS_KILLED = drawn(10);

describe('kill -9 at a random moment', () => {
  const folder = temporaryFolder();
  let study: Subject;
  beforeAll(async () => {
    study = await undisturbed(join(folder, 'study'), { seeds: 1, epochs: 3 });
  });

  const expectUnharmed = async (target: Target, subject = study, most = 1): Promise<void> => {
    const { kills, differences } = await killAtRandom(target, subject, { kills: most, seed: 4 });
    expect(differences).toEqual([]);
    expect({ kills, files: subject.expected.size }).toEqual({ kills: most, files: target === 'train' ? 4 : 2 });
  };

  it.concurrent('of the run loses no trial and changes no number', () => expectUnharmed('parent'));

  it.concurrent(
    `of a training changes no byte of its adapter, ${TRAININGS_KILLED} times`,
    { timeout: 60_000 + 30_000 * TRAININGS_KILLED },
    async () => {
      await expectUnharmed('train', await undisturbedTraining(join(folder, 'train'), { epochs: 3 }), TRAININGS_KILLED);
    },
  );

  it.skipIf(!hasRedis).concurrent.each<Target>(['worker', 'forgetful-redis'])(
    `of the %s of a queue loses no trial and changes no number${withoutRedis}`,
    (target) => expectUnharmed(target),
  );
});

describe.skipIf(!hasRedis)(`many trials over two workers that are killed repeatedly${withoutRedis}`, () => {
  it('have one result each, and are reported once', async () => {
    const { exitCode, kills, reported, kept } = await manyTrials({ trials: 8, everySeconds: 4, seed: 1 });
    expect(exitCode).toBe(0);
    expect(kills).toBeGreaterThan(0);
    expect(kept).toHaveLength(8);
    expect([...reported].sort()).toEqual(kept);
  });
});
