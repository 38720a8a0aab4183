import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Worker, type Job } from 'bullmq';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { comparable, kill, said, startBench, startWorker, type Bench } from '../../tools/faults/bench.js';
import { hasRedis, startRedis, type RedisServer } from '../../tools/faults/redis.js';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { peftBench } from '../cli/in-process.js';
import { resultsIn } from '../cli/results.js';
import { tinyTask } from '../cli/tiny-task.js';

const title = `a run over a queue with hostile workers${hasRedis ? '' : ' (skipped: redis-server is not installed)'}`;

type Result = Record<string, unknown> & {
  readonly id: string;
  readonly arm: string;
  readonly seed: number;
  readonly status: string;
  readonly versions: object;
  readonly error?: { readonly code: string; readonly message: string };
};

const folder = temporaryFolder();
let flags: readonly string[] = [];
let redis: RedisServer;
let client: Redis;
const started: Bench[] = [];

/** A process that is killed at the end of the test in any case. */
function watched(bench: Bench): Bench {
  started.push(bench);
  return bench;
}

/** A trial in the hands of a hostile worker. */
interface Taken {
  readonly job: Job<{ trial: Result }>;
  readonly token: string;
}

/** The queue of an arm, and its waiting trials. */
async function queueOf(arm: string): Promise<{ readonly queue: string; readonly waiting: readonly string[] }> {
  for (const queue of await client.zrange('peft-bench:queues', 0, -1)) {
    const waiting = await client.lrange(`peft-bench:${queue}:wait`, 0, -1);
    if (waiting.some((id) => id.startsWith(`${arm}-`))) return { queue, waiting };
  }
  throw new RangeError(`no trial of ${arm} waits`);
}

/** Takes all waiting trials of an arm. */
async function takeAll(arm: string): Promise<Taken[]> {
  const { queue, waiting } = await queueOf(arm);
  const options = { connection: client, prefix: 'peft-bench', autorun: false };
  const worker = new Worker<{ trial: Result }>(queue, null, options);
  const taken: Taken[] = [];
  for (let left = waiting.length; left > 0; left--) {
    const token = randomUUID();
    const next: Promise<Taken['job'] | undefined> = worker.getNextJob(token, { block: false });
    const job = await next;
    if (job) taken.push({ job, token });
  }
  return taken.sort((a, b) => a.job.data.trial.seed - b.job.data.trial.seed);
}

const settle = ({ job, token }: Taken, result: object): Promise<unknown> =>
  job.moveToCompleted({ type: 'done', result }, token, false);

describe.skipIf(!hasRedis)(title, () => {
  beforeAll(async () => {
    flags = ['run', ...(await tinyTask(folder, 40)), '--method', 'head,lora,bitfit,sora', '--seeds', '2'];
    redis = await startRedis();
    client = new Redis(redis.url, { maxRetriesPerRequest: null });
  });
  afterAll(async () => {
    await Promise.all(started.map(kill));
    client.disconnect();
    await redis.stop();
  });

  it("fails trials by name whose result is not theirs, drops messages that are not a worker's, and finishes the others", async () => {
    const alone = join(folder, 'alone');
    expect((await peftBench([...flags, '--out', alone])).code).toBe(0);
    const honest = await resultsIn<Result>(alone);
    const honestOf = (id: string): Result => honest.find((result) => result.id === id) as Result;

    const out = join(folder, 'out');
    const run = watched(startBench([...flags, '--queue', redis.url, '--out', out]));
    const waiting = (): Promise<number[]> =>
      Promise.all(['head', 'lora', 'bitfit'].map(async (arm) => (await queueOf(arm)).waiting.length));
    await expect.poll(waiting, { timeout: 60_000 }).toEqual([2, 2, 2]);

    const head = await queueOf('head');
    const unread = head.waiting.find((id) => id.includes('-s1-'));
    await client.hset(`peft-bench:${head.queue}:${unread}`, 'progress', '{"step": ');

    const [otherVersion, otherTrial] = (await takeAll('lora')) as [Taken, Taken];
    const [infinite, wordless] = (await takeAll('bitfit')) as [Taken, Taken];
    await wordless.job.updateProgress({ step: 1, totalSteps: 9, epoch: 0, epochs: 1, loss: null });
    await said(run, /bitfit .*seed 2 /);
    const { trial } = otherVersion.job.data;
    await settle(otherVersion, { ...honestOf(trial.id), versions: { ...trial.versions, '@peftjs/core': '99.0.0' } });
    const another = honest.find(({ arm, seed }) => arm === 'sora' && seed === 2);
    await settle(otherTrial, { ...another, id: otherTrial.job.data.trial.id });
    await settle(infinite, { ...honestOf(infinite.job.data.trial.id), metrics: { accuracy: 'Infinity' } });
    await wordless.job.moveToWait(wordless.token);

    watched(startWorker(redis.url, join(folder, 'scratch')));
    expect(await run.ended).toBe(1);
    const results = await resultsIn<Result>(out);
    const failures = results.flatMap(({ arm, seed, error }) => (error ? [`${arm} ${seed} ${error.message}`] : []));
    expect(failures.sort()).toEqual(
      [
        /^bitfit 1 a worker's answer is not a result: .*accuracy/,
        /^head 1 its job in Redis cannot be read: /,
        /^lora 1 .* its versions is .*99\.0\.0.*, expected .*$/,
        /^lora 2 .* its arm is "sora", expected "lora"$/,
      ].map((message): unknown => expect.stringMatching(message)),
    );
    const [expected, got] = [await comparable(alone), await comparable(out)];
    const finished = results.filter(({ status }) => status === 'done').map(({ id }) => id);
    expect(finished).toHaveLength(4);
    for (const id of finished) expect(got.get(id)).toBe(expected.get(id));
  });

  it('opens few connections for thousands of queues that others announce, and still runs its own trials', async () => {
    const url = `${redis.url}/1`;
    const names = (count: number, nameOf: (index: number) => string): string[] =>
      Array.from({ length: count }, (_, index) => ['0', nameOf(index)]).flat();
    const hex = (index: number): string => index.toString(16).padStart(16, '0');
    const pages = [names(1_500, (index) => `their-queue-${index}`), names(1_500, hex)];
    await client.select(1);
    for (const page of pages) await client.zadd('peft-bench:queues', ...page);
    await client.select(0);
    const worker = watched(startWorker(url, join(folder, 'scratch-of-few')));
    const run = watched(startBench([...flags, '--method', 'head', '--queue', url, '--out', join(folder, 'few')]));
    let most = 0;
    const count = async (): Promise<void> => {
      most = Math.max(most, ((await client.client('LIST')) as string).trim().split('\n').length);
    };
    const counting = setInterval(() => void count(), 100);
    expect(await run.ended).toBe(0);
    clearInterval(counting);
    await count();
    await kill(worker);
    expect(most).toBeGreaterThan(2);
    expect(most).toBeLessThan(150);
  });

  it('a Redis that keeps refusing is reported once', async () => {
    await client.select(2);
    await client.set('peft-bench:queues', 'a text, where workers expect a set');
    const worker = watched(startWorker(`${redis.url}/2`, join(folder, 'scratch-of-refused')));
    await said(worker, /Redis gives no trials: WRONGTYPE/);
    await setTimeout(1200); // two more requests
    expect(worker.stderr().match(/Redis gives no trials/g)).toHaveLength(1);
    await kill(worker);
    await client.select(0);
  });
});
