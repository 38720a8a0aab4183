import { existsSync } from 'node:fs';
import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { checkpointOwners, lockFolder } from '../../packages/cli/src/results/folder.js';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import type { Ended } from './command.js';
import { peftBench } from './in-process.js';
import { tinyTask } from './tiny-task.js';

const folder = temporaryFolder();
let settings: readonly string[] = [];
/** The files of an adapter whose training was not disturbed. */
let undisturbed: Readonly<Record<string, string>> = {};
const path = (name: string): string => join(folder, name);

beforeAll(async () => {
  settings = ['--method', 'lora', '--epochs', '10', ...(await tinyTask(folder, 64))];
  expect(await train('undisturbed')).toMatchObject({ code: 0 });
  undisturbed = await filesOf('undisturbed');
});

function train(out: string, ...flags: readonly string[]): Promise<Ended> {
  return peftBench(['train', ...settings, ...flags, '--out', path(out)]);
}

/** The content of every file in a folder that is not hidden, by name; of the model card without the folder's name. */
async function filesOf(out: string): Promise<Record<string, string>> {
  const names = (await readdir(path(out))).filter((name) => !name.startsWith('.')).sort();
  const files = names.map(async (name) => [name, await readFile(path(`${out}/${name}`), 'latin1')] as const);
  const { 'README.md': card = '', ...others } = Object.fromEntries(await Promise.all(files));
  return {
    'README.md': card
      .replace(new RegExp(`"(?:${out}|undisturbed)"`, 'g'), 'OUT')
      .replace(/<!-- peftjs \d+/, '<!-- peftjs'),
    ...others,
  };
}

/** Starts a training, and stops it as Ctrl-C does once it has written a checkpoint. */
async function interrupted(out: string, ...flags: readonly string[]): Promise<Ended> {
  const ended = train(out, '--checkpoint-every', '1', ...flags);
  await setImmediate(); // the command has begun, and takes signals
  await vi.waitUntil(() => checkpointOwners(path(`${out}/.unfinished`)).length > 0, { interval: 1, timeout: 20_000 });
  process.emit('SIGINT');
  return ended;
}

/** The one line with which a command is refused, without the lines about loading. */
function refusal({ code, stderr }: Ended): string {
  expect(code).toBe(2);
  return stderr
    .trim()
    .split('\n')
    .filter((line) => !line.startsWith('peft-bench: loading'))
    .join('\n');
}

describe('a training that was stopped', () => {
  let stopped: Ended;
  beforeAll(async () => {
    stopped = await interrupted('stopped');
  });

  it('says what is saved, and ends by the same command with the same bits as an undisturbed one', async () => {
    const [, step, total] =
      /^Stopped at step (\d+) of (\d+); rerun the same command to resume\.$/m.exec(stopped.stderr) ?? [];
    expect({ code: stopped.code, total }).toEqual({ code: 130, total: '80' });
    await cp(path('stopped'), path('resumed'), { recursive: true });
    const { code, stderr } = await train('resumed');
    expect({ code, stderr }).toEqual({
      code: 0,
      stderr: expect.stringMatching(new RegExp(`^Resuming at step ${step} of 80\\.$`, 'm')) as string,
    });
    expect(await filesOf('resumed')).toEqual(undisturbed);
    expect(await readdir(path('resumed'))).toEqual(Object.keys(undisturbed));
  });

  it('may be stopped again before it takes another step', async () => {
    const { code, stderr } = await interrupted('stopped');
    const [, at] = /^Resuming at (step \d+ of 80)\.$/m.exec(stderr) ?? [];
    expect(code).toBe(130);
    expect(stderr).toContain(`Stopped at ${at}; rerun the same command to resume.`);
    expect(stderr).not.toContain('does not fit');
  });

  it('is refused with other settings, for a run and for an export', async () => {
    const held = `peft-bench: --out ${path('stopped')} holds an unfinished training`;
    expect(refusal(await train('stopped', '--seed', '2'))).toMatch(
      new RegExp(
        `^${held} with other settings \\(lora-\\S+\\); rerun its command to finish it, .* --force to start afresh$`,
      ),
    );
    expect(refusal(await peftBench(['run', ...settings, '--out', path('stopped')]))).toBe(
      `${held}; name another folder for the results, or add --force to write into this one`,
    );
    const toExport = ['export', path('undisturbed'), '--format', 'peft', '--out', path('stopped')];
    expect(refusal(await peftBench(toExport))).toContain(`${held}; name another folder for the export`);
  });

  it.each([['predict', 'a text'], ['inspect'], ['export', '--format=peft', '--out=elsewhere']])(
    'is not an adapter yet: %s',
    async (command, ...more) => {
      expect(refusal(await peftBench([command, path('stopped'), ...more]))).toBe(
        `peft-bench: ${path('stopped')} holds an unfinished training; rerun its train command to finish it`,
      );
    },
  );

  it('starts afresh with --force', async () => {
    await cp(path('stopped'), path('forced'), { recursive: true });
    const { code, stderr } = await train('forced', '--seed', '2', '--force');
    expect({ code, stderr }).toEqual({ code: 0, stderr: expect.not.stringContaining('Resuming') as string });
    expect(await readdir(path('forced'))).toEqual(Object.keys(undisturbed));
    expect((await filesOf('forced'))['adapter_model.safetensors']).not.toBe(undisturbed['adapter_model.safetensors']);
  });

  it('completes a save that was cut short', async () => {
    await cp(path('stopped'), path('cut'), { recursive: true });
    await writeFile(path('cut/adapter_config.json'), '{ "peft_type": "INCOMPLETE_SAVE", "incomplete_save": "cut" }');
    const halfWritten = ['adapter_model.safetensors.abc.tmp', '.writable.abc.tmp', '.unfinished/a.safetensors.abc.tmp'];
    for (const name of halfWritten) await writeFile(path(`cut/${name}`), 'half');
    expect(await train('cut')).toMatchObject({ code: 0 });
    expect(await filesOf('cut')).toEqual(undisturbed);
    expect(await readdir(path('cut'))).toEqual(Object.keys(undisturbed));
  });

  it('because it failed leaves nothing behind, so the next one may have other settings', async () => {
    const { code, stderr } = await train('failed', '--learning-rate', '1e39');
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining('the loss is NaN') as string });
    expect(existsSync(path('failed'))).toBe(false);
  });
});

describe('a finished adapter', () => {
  it('is refused before anything is loaded', async () => {
    const before = await filesOf('undisturbed');
    expect((await train('undisturbed')).stderr).toBe(
      `peft-bench: --out ${path('undisturbed')} holds an adapter; name another folder for the adapter, or add --force to replace it\n`,
    );
    expect(await filesOf('undisturbed')).toEqual(before);
  });

  it('stays until the one that replaces it is complete, which needs --force only to begin', async () => {
    await cp(path('undisturbed'), path('old'), { recursive: true });
    const { code, stderr } = await interrupted('old', '--seed', '2', '--force');
    expect({ code, stderr }).toEqual({
      code: 130,
      stderr: expect.stringMatching(/rerun the same command without --force to resume\.$/m) as string,
    });
    expect(await filesOf('old')).toEqual(undisturbed);
    expect(await train('old', '--seed', '2')).toMatchObject({ code: 0 });
    expect((await filesOf('old'))['adapter_model.safetensors']).not.toBe(undisturbed['adapter_model.safetensors']);
  });
});

it('a folder that is in use, or cannot be made, is refused before anything is trained', async () => {
  await mkdir(path('locked'));
  const lock = await lockFolder(path('locked'));
  expect(refusal(await train('locked'))).toMatch(`in use by another run, process ${process.pid} on `);
  lock.release();
  expect(refusal(await train('train.tsv/adapter'))).toMatch(/adapter cannot be written: ENOTDIR: not a directory/);
  expect(existsSync(path('locked/adapter_config.json'))).toBe(false);
});
