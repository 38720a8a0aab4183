import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { killAtRandom, undisturbed, type Subject, type Target } from './kills.js';
import { hasRedis } from './redis.js';
import { manyTrials } from './trials.js';

const withoutRedis = hasRedis ? '' : ' (skipped: redis-server is not installed)';

describe('kill -9 at a random moment', () => {
  let subject: Subject;
  beforeAll(async () => {
    subject = await undisturbed(await mkdtemp(join(tmpdir(), 'peftjs-faults-')), { seeds: 1, epochs: 8 });
  });
  afterAll(() => rm(subject.folder, { recursive: true }));

  const expectUnharmed = async (target: Target): Promise<void> => {
    const { kills, trials, differences } = await killAtRandom(target, subject, { kills: 1, seed: 4 });
    expect(differences).toEqual([]);
    expect({ kills, trials }).toEqual({ kills: 1, trials: 2 });
  };

  it.concurrent('of the run loses no trial and changes no number', () => expectUnharmed('parent'));

  it.skipIf(!hasRedis).concurrent.each<Target>(['worker', 'forgetful-redis'])(
    `of the %s of a queue loses no trial and changes no number${withoutRedis}`,
    expectUnharmed,
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
