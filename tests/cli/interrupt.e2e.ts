import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { BIN, peftBench } from './command.js';
import { tinyTask } from './tiny-task.js';
import { numbersOf, resultsIn } from './results.js';

const folder = temporaryFolder();
let task: readonly string[] = [];
/** The results of an uninterrupted run of three arms. */
let undisturbed: object[] = [];
/** Those of the two arms that most tests run. */
let ofTwoArms: object[] = [];
beforeAll(async () => {
  task = await tinyTask(folder, 160);
  const out = join(folder, 'undisturbed');
  expect((await peftBench(runInto(out, 'head,lora,sora'))).code).toBe(0);
  expect(await readdir(out)).not.toContain('checkpoints');
  undisturbed = await numbers(out);
  ofTwoArms = (await resultsIn<Result>(out)).filter(({ arm }) => arm !== 'sora').map(numbersOf);
});

/** A command with enough epochs for a trial to be still running when a test has seen it and sent its signal. */
const runInto = (out: string, arms = 'head,lora'): string[] => {
  const flags = ['--epochs', '24', '--checkpoint-every', '1', '--workers', '1', '--json', '--out', out];
  return ['run', ...task, '--method', arms, ...flags];
};

/** A run in progress. */
interface Running {
  readonly child: ChildProcess;
  readonly pid: number;
  stderr(): string;
  ended(): Promise<number | null>;
}

function start(args: readonly string[], env: Readonly<Record<string, string>> = {}): Running {
  const child = spawn(process.execPath, [BIN, ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, ...env },
  });
  let text = '';
  child.stderr.on('data', (chunk: Buffer) => (text += chunk.toString()));
  const end = once(child, 'close').then(([code]) => code as number | null);
  return { child, pid: child.pid ?? 0, stderr: () => text, ended: () => end };
}

/** Waits until a condition holds. */
async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let look = 0; look < 3000 && !(await holds()); look++) await setTimeout(10);
  expect(await holds()).toBe(true);
}

const said = (run: Running, text: RegExp) => (): boolean => text.test(run.stderr());

/** Whether a trial of an arm, or a training, has written a checkpoint. */
const hasCheckpoint =
  (out: string, arm: string, where = 'checkpoints') =>
  async (): Promise<boolean> =>
    (await readdir(join(out, where)).catch((): string[] => [])).some(
      (file) => file.startsWith(arm) && file.endsWith('.safetensors'),
    );

/** The child processes of a process, by /proc. */
async function descendants(pid: number): Promise<number[]> {
  const listed = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
  const children = listed.split(' ').filter(Boolean).map(Number);
  return [...children, ...(await Promise.all(children.map(descendants))).flat()];
}

/** Whether a process has ended or is a zombie, which has no command line. */
async function hasEnded(pid: number): Promise<boolean> {
  return (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')) === '';
}

/** The child processes of a run that train. */
async function workersOf({ pid }: Running): Promise<number[]> {
  const below = await descendants(pid);
  const commands = await Promise.all(below.map((one) => readFile(`/proc/${one}/cmdline`, 'utf8').catch(() => '')));
  return below.filter((_, index) => commands[index]?.includes('run/worker'));
}

function killAll(pids: readonly (number | undefined)[]): void {
  for (const pid of pids) if (pid !== undefined) process.kill(pid, 'SIGKILL');
}

/** A worker of a run that is not among `known`: those may take a while to end. */
async function workerBeside(run: Running, known: readonly (number | undefined)[]): Promise<number> {
  let other: number | undefined;
  await until(async () => (other = (await workersOf(run)).find((pid) => !known.includes(pid))) !== undefined);
  return other as number;
}

/** A hub that accepts requests and never answers; `asked` is settled by the first. */
async function withSilentHub(use: (url: string, asked: Promise<unknown>) => Promise<void>): Promise<void> {
  const server = createServer(() => undefined).listen(0, '127.0.0.1');
  const asked = once(server, 'request');
  await once(server, 'listening');
  try {
    await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

type Result = Record<string, unknown> & { readonly arm: string; readonly status: string };

/** The parts that two runs of one plan have in common. */
async function numbers(out: string): Promise<object[]> {
  return (await resultsIn<Result>(out)).map(numbersOf);
}

const statuses = async (out: string): Promise<Record<string, string>> =>
  Object.fromEntries((await resultsIn<Result>(out)).map(({ arm, status }) => [arm, status]));

describe.skipIf(process.platform === 'win32')('a stopped run', () => {
  it('keeps the finished trials, exits with 130, and resumes by the same command', async () => {
    const out = join(folder, 'interrupted');
    const run = start(runInto(out));
    await until(hasCheckpoint(out, 'lora'));
    run.child.kill('SIGINT');
    expect(await run.ended()).toBe(130);
    expect(await statuses(out)).toEqual({ head: 'done' });
    const again = await peftBench(runInto(out));
    expect(again.code).toBe(0);
    expect(again.stdout.trim().split('\n')).toHaveLength(1);
    expect(await numbers(out)).toEqual(ofTwoArms);
    expect(await readdir(out)).not.toContain('checkpoints');
  });

  it('says that it was tuning, and runs no other trial', async () => {
    const out = join(folder, 'tuning');
    const study = join(folder, 'tuned.json');
    await writeFile(study, JSON.stringify({ tuning: { learningRates: [1e-3, 2e-3, 4e-3], seeds: 3 } }));
    const arms = ['--method', 'head,lora', '--workers', '2'];
    const run = start(['run', '--preset', 'smoke', '--config', study, ...arms, '--out', out]);
    await until(said(run, /✓ +lora/));
    run.child.kill('SIGINT');
    expect(await run.ended()).toBe(130);
    expect(run.stderr()).toContain(
      `stopped while tuning learning rates; the finished trials are in ${out}. Rerun the same command to resume.`,
    );
    expect(await resultsIn(out)).toEqual([]);
    const tuned = await resultsIn(join(out, 'tuning'));
    expect(tuned).not.toEqual([]);
    expect(tuned.length).toBeLessThan(9); // three rates with three seeds
  });

  it.each(['run', 'train'])('ends at once when it is stopped twice: %s', async (command) => {
    await withSilentHub(async (hub, asked) => {
      const study = ['--preset', 'smoke', '--method', 'lora', '--model', 'some/model'];
      const args = [command, ...study, '--out', join(folder, 'twice')];
      const run = start(args, { HF_ENDPOINT: hub, HF_HOME: join(folder, 'hub') });
      await asked; // the run waits for a model that never arrives
      run.child.kill('SIGINT');
      await until(said(run, /stopping; press Ctrl-C again to end at once/));
      run.child.kill('SIGINT');
      expect(await run.ended()).toBe(130);
      expect(run.stderr()).not.toMatch(/stopped/i);
    });
  });
});

describe.skipIf(process.platform === 'win32')('a stopped training', () => {
  const training = (out: string): string[] => ['train', ...task, '--method', 'lora', '--epochs', '200', '--out', out];

  it.each(['SIGINT', 'SIGTERM'] as const)('says what is saved and resumes by the same command: %s', async (signal) => {
    const out = join(folder, signal);
    const run = start(training(out));
    await until(hasCheckpoint(out, 'lora', '.unfinished'));
    const second = await peftBench(training(out));
    expect(second.code).toBe(2);
    expect(second.stderr).toMatch(
      new RegExp(`^peft-bench: --out ${out} is in use by another run, process \\d+ on `, 'm'),
    );
    run.child.kill(signal);
    expect(await run.ended()).toBe(130);
    const [line, step] =
      /^Stopped at step (\d+) of 3600; rerun the same command to resume\.$/m.exec(run.stderr()) ?? [];
    expect(run.stderr().trim().split('\n').at(-1)).toBe(line);
    const again = start(training(out));
    await until(said(again, new RegExp(`^Resuming at step ${step} of 3600\\.$`, 'm')));
    again.child.kill('SIGKILL');
    await again.ended();
  });
});

describe.skipIf(process.platform !== 'linux')(
  'a run whose processes are killed (seen by /proc, which Linux has)',
  () => {
    it('gives a trial up whose worker is killed again, runs the others, and makes up for it by the same command', async () => {
      const out = join(folder, 'worker-twice');
      const run = start(runInto(out, 'head,lora,sora'));
      await until(hasCheckpoint(out, 'lora'));
      const [first] = await workersOf(run);
      killAll([first]);
      const second = await workerBeside(run, [first]);
      await until(said(run, /✓ +sora/));
      killAll([await workerBeside(run, [first, second])]);
      expect(await run.ended()).toBe(1);
      expect(run.stderr()).toMatch(/✗ +lora .*memory ran out, 2 times, the last time with no other trial running/);
      expect(await statuses(out)).toEqual({ head: 'done', lora: 'failed', sora: 'done' });
      expect((await peftBench(runInto(out, 'head,lora,sora'))).code).toBe(0);
      expect(await numbers(out)).toEqual(undisturbed);
    });

    it('ends its workers when it is killed itself, and resumes by the same command to the same numbers', async () => {
      const out = join(folder, 'parent');
      const run = start(runInto(out));
      await until(hasCheckpoint(out, 'lora'));
      const below = await descendants(run.pid);
      expect(await workersOf(run)).toHaveLength(1);
      run.child.kill('SIGKILL');
      await run.ended();
      await until(async () => (await Promise.all(below.map(hasEnded))).every(Boolean));
      expect(await hasCheckpoint(out, 'lora')()).toBe(true);
      await writeFile(join(out, 'results', 'some.json.abc123.tmp'), '{ "half": ');
      const again = await peftBench(runInto(out));
      expect(again.code).toBe(0);
      expect(await numbers(out)).toEqual(ofTwoArms);
      expect((await readdir(out)).sort()).toEqual([
        'report.html',
        'report.md',
        'results',
        'results.csv',
        'run.json',
        'summary.csv',
        'summary.json',
      ]);
    });

    it('starts a trial again whose worker is killed, to the same numbers, and keeps a second run out all the while', async () => {
      const out = join(folder, 'worker');
      const run = start(runInto(out));
      await until(() => existsSync(join(out, '.lock')));
      const started = [run.pid, ...(await descendants(run.pid))];
      const refused = peftBench(runInto(out));
      await until(hasCheckpoint(out, 'lora'));
      killAll(await workersOf(run));
      const second = await refused;
      expect(second.code).toBe(2);
      const refusal = new RegExp(
        `^peft-bench: --out ${out} is in use by another run, process (\\d+) on \\S+; wait for it`,
      );
      expect(started).toContain(Number(refusal.exec(second.stderr.trim().split('\n').at(-1) ?? '')?.[1]));
      expect(await run.ended()).toBe(0);
      expect(run.stderr()).toMatch(
        /! +lora .*killed by SIGKILL, probably because memory ran out; it will be retried alone/,
      );
      expect(await numbers(out)).toEqual(ofTwoArms);
    });
  },
);
