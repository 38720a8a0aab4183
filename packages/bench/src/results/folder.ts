import { existsSync, readFileSync, rmSync } from 'node:fs';
import { mkdir, open, readdir, readFile, rm, rmdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import * as v from 'valibot';
import { diskStorage, PeftError } from '@peftjs/core';
import { CheckpointError, ConfigError } from '@peftjs/core/method';
import { isDead, ownIdentity, type ProcessIdentity } from '@peftjs/models';

/** Where the checkpoints of the trials of a run lie. */
export function checkpointFolder(folder: string): string {
  return `${folder}/checkpoints`;
}

/** Where the checkpoint of a trial lies. */
export function checkpointPath(checkpoints: string, id: string): string {
  return `${checkpoints}/${id}${CHECKPOINT}`;
}

/** The trial that a file of such a folder belongs to; undefined for any other file. */
export function checkpointOwner(file: string): string | undefined {
  return file.endsWith(CHECKPOINT) ? file.slice(0, -CHECKPOINT.length) : undefined;
}

/** What the name of a checkpoint ends in. */
const CHECKPOINT = '.safetensors';

/** Where a run keeps the results of trials that tune, apart from those that it reports. */
export function tuningFolder(folder: string): string {
  return `${folder}/tuning`;
}

/**
 * Makes a folder a run's own, before anything is computed: locked, writable, and without what a killed run left half-written. One
 * that is shared with the other shares of the run is writable, and no more: they write other files, and what they have half-written
 * they are at.
 * @throws CheckpointError when it cannot be written.
 * @throws ConfigError when another run has it.
 */
export async function claimFolder(
  folder: string,
  { isShared = false }: { readonly isShared?: boolean } = {},
): Promise<FolderLock | undefined> {
  let lock: FolderLock | undefined;
  try {
    await makeFolder(`${folder}/results`);
    if (!isShared) lock = await lockFolder(folder);
    const probe = `${folder}/results/.writable`;
    await diskStorage().write(probe, new Uint8Array(PROBE_BYTES));
    await rm(probe, { force: true });
    const written = [folder, `${folder}/results`, `${tuningFolder(folder)}/results`, checkpointFolder(folder)];
    for (const part of isShared ? [] : written) await removeHalfWritten(part);
    return lock;
  } catch (cause) {
    lock?.release();
    if (cause instanceof PeftError && cause.code === 'PEFT_CONFIG') throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new CheckpointError(`--out ${folder} cannot be written: ${reason}`, folder, cause);
  }
}

/** One level after the other: of a disk that is read-only, Node's own `recursive` says that there is no such folder. */
async function makeFolder(path: string): Promise<void> {
  if (existsSync(path)) return;
  await makeFolder(dirname(path));
  await mkdir(path);
}

/** About what a result takes: a full disk takes an empty file. */
const PROBE_BYTES = 16 * 1024;

/** Removes the checkpoint of a trial, if there is one. */
export async function removeCheckpoint(folder: string, id: string): Promise<void> {
  await rm(checkpointPath(checkpointFolder(folder), id), { force: true }).catch(() => undefined); // the next run removes it
}

/** Removes the checkpoints of trials that are done, and their folder when nothing else is in it. */
export async function removeFinishedCheckpoints(folder: string, done: ReadonlySet<string>): Promise<void> {
  const checkpoints = checkpointFolder(folder);
  const files = await filesIn(checkpoints);
  const finished = files.filter((file) => done.has(checkpointOwner(file) ?? ''));
  for (const file of finished) await rm(`${checkpoints}/${file}`, { force: true });
  if (finished.length === files.length) await rmdir(checkpoints).catch(() => undefined); // it may never have been made
}

/** What `diskStorage` names a file that it has not finished. */
export const HALF_WRITTEN = /\.(?:json|html|md|csv|safetensors)\.[a-z0-9]+\.tmp$/;

async function removeHalfWritten(folder: string): Promise<void> {
  for (const file of await filesIn(folder)) {
    if (HALF_WRITTEN.test(file)) await rm(`${folder}/${file}`, { force: true });
  }
}

async function filesIn(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => []);
}

const REMEDIES: Readonly<Record<string, string>> = {
  ENOSPC: 'Make room on the disk',
  EDQUOT: 'Make room in the quota',
  EROFS: 'Make the file system writable',
  EACCES: 'Make the folder writable',
  EPERM: 'Make the folder writable',
  EMFILE: 'Allow more open files (ulimit -n)',
  ENFILE: 'Allow more open files',
};

/** What to do about a file that could not be written, for a run to go on. */
export function remedyOf({ cause }: CheckpointError): string {
  const { code } = (cause ?? {}) as { readonly code?: unknown };
  return (typeof code === 'string' && REMEDIES[code]) || 'Fix that';
}

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
    if (await createdWith(path, content)) return ownLock(path, content);
    const holder = await holderOf(path);
    if (holder !== null && !(await isDead(holder))) throw inUse(folder, holder);
    if (holder === null || !(await removed(path, holder))) await setTimeout(PAUSE_MS);
  }
  throw new ConfigError(`--out ${folder}: ${path} names no process; delete it if no other run is at work there`, 'out');
}

function ownLock(path: string, content: string): FolderLock {
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
