import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BIN, peftBench } from './command.js';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'peft-bench-stop-'));
});
afterAll(() => rm(folder, { recursive: true }));

const flags = ['run', '--preset', 'smoke', '--method', 'head,lora,sora', '--workers', '1', '--json', '--out'];

/** Starts a run and resolves when its stderr says something. */
async function startedUntil(out: string, said: RegExp): Promise<ChildProcess> {
  const child = spawn(process.execPath, [BIN, ...flags, out], { stdio: ['ignore', 'ignore', 'pipe'] });
  let text = '';
  await new Promise<void>((resolve) => {
    child.stderr.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      if (said.test(text)) resolve();
    });
  });
  return child;
}

const ended = (child: ChildProcess): Promise<number | null> =>
  new Promise((resolve) => {
    child.on('close', (code) => {
      resolve(code);
    });
  });

/** Processes below a process, by /proc. */
async function descendants(pid: number): Promise<number[]> {
  const listed = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
  const children = listed.split(' ').filter(Boolean).map(Number);
  return [...children, ...(await Promise.all(children.map(descendants))).flat()];
}

async function statuses(out: string): Promise<Record<string, string>> {
  const files = await readdir(join(out, 'results'));
  const results = await Promise.all(
    files.map(async (file) => JSON.parse(await readFile(join(out, 'results', file), 'utf8')) as Record<string, string>),
  );
  return Object.fromEntries(results.map(({ method, status }) => [method ?? '', status ?? '']));
}

describe.skipIf(process.platform === 'win32')('a run that is stopped', () => {
  it('keeps what is finished, says so with exit code 130, and goes on by the same command', async () => {
    const out = join(folder, 'interrupted');
    const child = await startedUntil(out, /✓ +head/);
    child.kill('SIGINT');
    expect(await ended(child)).toBe(130);
    expect(await statuses(out)).toEqual({ head: 'done' });
    const again = await peftBench([...flags, out]);
    expect(again.code).toBe(0);
    expect(again.stdout.trim().split('\n')).toHaveLength(2);
    expect(await statuses(out)).toEqual({ head: 'done', lora: 'done', sora: 'done' });
  });
});

describe.skipIf(process.platform !== 'linux')('a run whose worker is killed', () => {
  it('names the lost trial, runs the others, ends with exit code 1, and makes up for it by the same command', async () => {
    const out = join(folder, 'killed');
    const child = await startedUntil(out, /✓ +head[^]*lora[^]*(step|preparing)/);
    const workers = (await descendants(child.pid ?? 0)).slice(-1);
    expect(workers).toHaveLength(1);
    for (const worker of workers) process.kill(worker, 'SIGKILL');
    expect(await ended(child)).toBe(1);
    expect(await statuses(out)).toEqual({ head: 'done', lora: 'failed', sora: 'done' });
    expect((await peftBench([...flags, out])).code).toBe(0);
    expect(await statuses(out)).toEqual({ head: 'done', lora: 'done', sora: 'done' });
  });
});
