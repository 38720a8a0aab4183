import { rmSync, readFileSync } from 'node:fs';
import { open, readFile, rm } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import * as v from 'valibot';
import { ConfigError } from '@peftjs/core';
import { isDead, ownIdentity, type ProcessIdentity } from '@peftjs/models';

/** A folder that belongs to one run. */
export interface FolderLock {
  release(): void;
}

const lockFile = v.object({
  pid: v.pipe(v.number(), v.integer(), v.minValue(1)),
  host: v.string(),
  machine: v.nullable(v.string()),
  boot: v.nullable(v.string()),
  namespace: v.nullable(v.string()),
  start: v.nullable(v.string()),
});

/** Where a run says that the folder is its own. */
const LOCK_FILE = '.lock';
/** How often a lock that another process is just making or removing is looked at, and how long in between. */
const LOOKS = 20;
const PAUSE_MS = 50;

/**
 * Locks a folder until `release`, or until this process ends, however that happens: the lock of a process that is no more is
 * taken over. One that may be alive is never touched.
 * @throws ConfigError naming the process that has the folder.
 */
export async function lockFolder(folder: string): Promise<FolderLock> {
  const path = `${folder}/${LOCK_FILE}`;
  const content = JSON.stringify(await ownIdentity());
  for (let look = 0; look < LOOKS; look++) {
    if (await createdWith(path, content)) return heldLock(path, content);
    const holder = await holderOf(path);
    if (holder !== null && !(await isDead(holder))) throw inUse(folder, holder);
    if (holder === null || !(await removed(path, holder))) await setTimeout(PAUSE_MS);
  }
  throw new ConfigError(`--out ${folder}: ${path} names no process; delete it if no other run is at work there`, 'out');
}

function heldLock(path: string, content: string): FolderLock {
  const release = (): void => {
    process.off('exit', release);
    try {
      if (readFileSync(path, 'utf8') === content) rmSync(path);
    } catch {
      // The folder is gone or read-only by now: whoever finds the lock sees that its process has ended.
    }
  };
  process.on('exit', release);
  return { release };
}

/** Makes a file; false where there is one. Nothing is left of one that cannot be written. */
async function createdWith(path: string, content: string): Promise<boolean> {
  try {
    const file = await open(path, 'wx');
    try {
      await file.writeFile(content);
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    } finally {
      await file.close();
    }
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/** Whose lock it is; null where it has just gone, or is not written to its end. */
async function holderOf(path: string): Promise<ProcessIdentity | null> {
  try {
    const holder = v.safeParse(lockFile, JSON.parse(await readFile(path, 'utf8')));
    return holder.success ? holder.output : null;
  } catch {
    return null;
  }
}

/**
 * Removes the lock of a process that has ended; false where another process is at it. Only who makes the file beside it may
 * remove, and only what it still finds there: between the look and the removal somebody else may have locked anew.
 */
async function removed(path: string, dead: ProcessIdentity): Promise<boolean> {
  const permit = `${path}.${dead.pid}.taken`;
  if (!(await createdWith(permit, ''))) return false;
  try {
    if (isDeepStrictEqual(await holderOf(path), dead)) await rm(path, { force: true });
    return true;
  } finally {
    await rm(permit, { force: true });
  }
}

function inUse(folder: string, { pid, host }: ProcessIdentity): ConfigError {
  return new ConfigError(
    `--out ${folder} is in use by another run, process ${pid} on ${host}; wait for it, or choose another folder ` +
      `(if there is no such process, delete ${folder}/${LOCK_FILE})`,
    'out',
  );
}
