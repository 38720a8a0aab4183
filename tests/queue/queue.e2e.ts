import { cp, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { comparable, differences, kill, said, startBench, TINY_MODEL, type Bench } from '../../tools/faults/bench.js';
import { hasRedis, startRedis, type RedisServer } from '../../tools/faults/redis.js';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';

const title = `a run over a queue${hasRedis ? '' : ' (skipped: redis-server is not installed)'}`;
const PASSWORD = 'open-sesame';

const folder = temporaryFolder();
let redis: RedisServer;
const study = ['run', '--preset', 'smoke', '--model', TINY_MODEL];

const started: Bench[] = [];
function start(args: readonly string[]): Bench {
  const bench = startBench(args);
  started.push(bench);
  return bench;
}

/** A separate database for each test, so that none runs the trials of another. */
function queue(database: number): { readonly url: string; readonly shown: string } {
  return { url: `${redis.url}/${database}`, shown: `redis://127.0.0.1:${redis.port}/${database}` };
}

function worker(url: string, name: string, scratch: string): Bench {
  return start(['worker', '--queue', url, '--workers', '1', '--scratch', scratch, '--name', name]);
}

async function keysOf(url: string): Promise<string[]> {
  const client = new Redis(url);
  const keys = await client.keys('*');
  client.disconnect();
  return keys.sort();
}

/** Every file in a folder, by path. */
async function filesBelow(path: string): Promise<string[]> {
  const entries = await readdir(path, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

describe.skipIf(!hasRedis)(title, () => {
  beforeAll(async () => {
    redis = await startRedis({ password: PASSWORD });
  });
  afterAll(async () => {
    await Promise.all(started.map(kill)); // processes of a failed test
    await redis.stop();
  });

  it.concurrent("has the numbers of a run without a queue, on the user's data, and leaves nothing else in Redis", async () => {
    const place = await mkdtemp(join(folder, 'equal-'));
    const { url } = queue(0);
    const rows = Array.from({ length: 40 }, (_, row) => `${row % 2 ? 'so good' : 'so bad'} ${row}\t${row % 2}`);
    const [train, dev] = [join(place, 'mine.tsv'), join(place, 'mine-dev.tsv')];
    await writeFile(train, `text\tlabel\n${rows.join('\n')}\n`);
    await writeFile(dev, `text\tlabel\n${rows.slice(0, 10).join('\n')}\n`);
    const own = [...study, '--train', train, '--dev', dev, '--method', 'head,lora'];
    const helper = worker(url, 'helper', join(place, 'scratch'));
    const run = start([...own, '--queue', url, '--out', join(place, 'queued'), '--json']);
    expect(await run.ended).toBe(0);
    expect(run.stdout().trim().split('\n')).toHaveLength(2);
    const alone = start([...own, '--workers', '1', '--out', join(place, 'alone')]);
    expect(await alone.ended).toBe(0);
    expect(differences(await comparable(join(place, 'alone')), await comparable(join(place, 'queued')))).toEqual([]);

    const sent = (await filesBelow(join(place, 'scratch'))).filter((path) => path.endsWith('.tsv'));
    expect(sent).toHaveLength(2);
    for (const path of sent) expect((await stat(path)).mode & 0o777).toBe(0o600);

    helper.process.kill('SIGINT');
    expect(await helper.ended).toBe(130);
    const keys = await keysOf(url);
    expect(keys).toEqual([expect.stringContaining('peft-bench:data:'), expect.stringContaining('peft-bench:data:')]);
    const written = await Promise.all((await filesBelow(place)).map((path) => readFile(path, 'utf8')));
    for (const text of [run.stderr(), run.stdout(), helper.stderr(), ...written]) expect(text).not.toContain(PASSWORD);
  });

  it.concurrent('says why no worker can run it, and withdraws its trials when it is stopped', async () => {
    const place = await mkdtemp(join(folder, 'refused-'));
    const { url, shown } = queue(1);
    const model = join(place, 'model');
    await cp(TINY_MODEL, model, { recursive: true });
    const plan = ['run', '--preset', 'smoke', '--model', model, '--method', 'head'];
    const run = start([...plan, '--queue', url, '--out', join(place, 'out')]);
    await said(run, /! +no worker at .* is free; start one/);
    expect(run.stderr()).toContain(
      `no worker at ${shown} is free; start one with peft-bench worker --queue ${shown}\n`,
    );
    await rm(join(model, 'tokenizer.json'));
    const poor = worker(url, 'poor', join(place, 'scratch'));
    await said(run, /poor cannot run head on uci-sentiment with .*tokenizer\.json/);
    expect(poor.stderr().match(/tokenizer\.json/g)).toHaveLength(1);
    await kill(poor);
    run.process.kill('SIGINT');
    expect(await run.ended).toBe(130);
    expect((await keysOf(url)).filter((key) => key.includes('head'))).toEqual([]);
  });

  it.concurrent('gives a trial back at Ctrl-C of its worker, and picks up what ended while it was away', async () => {
    const place = await mkdtemp(join(folder, 'away-'));
    const { url } = queue(2);
    const scratch = join(place, 'scratch');
    const long = join(place, 'long.json');
    await writeFile(long, JSON.stringify({ protocol: { epochs: 40 } }));
    const plan = [...study, '--config', long, '--method', 'lora'];
    const run = [...plan, '--queue', url, '--out', join(place, 'out')];
    const gone = start(run);
    const first = worker(url, 'first', scratch);
    await said(first, /started lora-/);
    while ((await readdir(join(scratch, 'checkpoints')).catch(() => [])).length === 0) await setTimeout(20);
    await kill(gone);
    first.process.kill('SIGINT');
    expect(await first.ended).toBe(130);
    expect(first.stderr()).toMatch(/gave back lora-/);
    const [checkpoint = ''] = await readdir(join(scratch, 'checkpoints'));
    await writeFile(join(scratch, 'checkpoints', `${checkpoint}.k3x9.tmp`), ''); // as a process killed while it writes
    const second = worker(url, 'second', scratch);
    await said(second, /done lora-/);
    await kill(second);
    expect(await start(run).ended).toBe(0);
    expect(await start([...plan, '--workers', '1', '--out', join(place, 'alone')]).ended).toBe(0);
    expect(differences(await comparable(join(place, 'alone')), await comparable(join(place, 'out')))).toEqual([]);
    expect(await readdir(join(scratch, 'checkpoints'))).toEqual([]);
  });

  it.concurrent('is rejected with a one-line message if the password is wrong', async () => {
    const place = await mkdtemp(join(folder, 'refused-'));
    const stranger = worker(redis.url.replace(PASSWORD, 'guess'), 'stranger', join(place, 'scratch'));
    expect(await stranger.ended).toBe(2);
    expect(stranger.stderr()).toMatch(
      /^peft-bench: --queue redis:\/\/127\.0\.0\.1:\d+ cannot be used: WRONGPASS .*\n$/,
    );
    expect(stranger.stderr()).not.toContain('guess');
  });
});
