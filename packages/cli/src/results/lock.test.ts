import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ConfigError } from '@peftjs/core/method';
import { ownIdentity, type ProcessIdentity } from '@peftjs/core/model';
import { claimFolder, lockFolder } from './folder.js';

let folder = '';
let own: ProcessIdentity;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'peft-bench-lock-'));
  own = await ownIdentity();
});
afterEach(() => rm(folder, { recursive: true }));

const lockedBy = (holder: ProcessIdentity): Promise<void> => writeFile(join(folder, '.lock'), JSON.stringify(holder));
const holder = async (): Promise<string> => readFile(join(folder, '.lock'), 'utf8');

/** The process id of a process that has ended. */
async function endedProcess(): Promise<number> {
  const child = spawn(process.execPath, ['--version'], { stdio: 'ignore' });
  await once(child, 'exit');
  return child.pid ?? 0;
}

describe('the lock of a folder', () => {
  it('admits one run, and the next one after its release', async () => {
    const lock = await lockFolder(folder);
    await expect(lockFolder(folder)).rejects.toThrow(ConfigError);
    await expect(lockFolder(folder)).rejects.toThrow(
      `--out ${folder} is in use by another run, process ${process.pid} on ${own.host}; wait for it, or choose another folder`,
    );
    lock.release();
    expect(await readdir(folder)).toEqual([]);
    (await lockFolder(folder)).release();
  });

  it('is taken over from a process that has ended', async () => {
    await lockedBy({ ...own, pid: await endedProcess() });
    const lock = await lockFolder(folder);
    expect(JSON.parse(await holder())).toEqual(own);
    lock.release();
    expect(await readdir(folder)).toEqual([]);
  });

  it.skipIf(process.platform !== 'linux')(
    'is taken over if the process id was reused or the machine rebooted (detected on Linux)',
    async () => {
      const rebooted = own.machine === null ? [] : [{ ...own, boot: 'an earlier one' }];
      for (const dead of [{ ...own, start: '1' }, ...rebooted]) {
        await lockedBy(dead);
        (await lockFolder(folder)).release();
      }
    },
  );

  it('is never taken over from a process that may be alive', async () => {
    const elsewhere: Partial<ProcessIdentity>[] = [
      { host: 'another-machine' },
      { machine: 'of the same name' },
      { namespace: 'another container' },
      { pid: process.pid, start: null },
    ];
    for (const other of elsewhere) {
      await lockedBy({ ...own, pid: await endedProcess(), ...other });
      const before = await holder();
      await expect(lockFolder(folder)).rejects.toThrow(/in use by another run, process \d+ on /);
      expect(await holder()).toBe(before);
    }
  });

  it('goes to exactly one of many processes that take it over at once', async () => {
    await lockedBy({ ...own, pid: await endedProcess() });
    const outcomes = await Promise.allSettled(Array.from({ length: 50 }, () => lockFolder(folder)));
    const winners = outcomes.filter(({ status }) => status === 'fulfilled');
    expect(winners).toHaveLength(1);
    expect(await readdir(folder)).toEqual(['.lock']);
  });

  it('is kept if it names no process, with an error', async () => {
    await writeFile(join(folder, '.lock'), 'mine');
    await expect(lockFolder(folder)).rejects.toThrow(/\.lock names no process; delete it if no other run/);
    expect(await holder()).toBe('mine');
  });

  it('keeps the lock of another process on release', async () => {
    const lock = await lockFolder(folder);
    await lockedBy({ ...own, host: 'another-machine' });
    lock.release();
    expect(await holder()).toContain('another-machine');
  });
});

it('a folder is made once by shares that start together', async () => {
  const shared = join(folder, 'runs', 'shared');
  await Promise.all(Array.from({ length: 8 }, () => claimFolder(shared, { isShared: true })));
  expect(await readdir(shared)).toEqual(['results']);
});
