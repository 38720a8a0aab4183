import { existsSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import * as v from 'valibot';
import { diskStorage, PeftError } from '@peftjs/core';
import { CheckpointError, ConfigError } from '@peftjs/core/method';
import { isDead, ownIdentity, UNFINISHED_FILE, type ProcessIdentity } from '@peftjs/core/model';

/** The folder of a run's checkpoints. */
export function checkpointFolder(folder: string): string {
  return `${folder}/checkpoints`;
}

/** The folder of an unfinished training's checkpoint, hidden in the folder of its adapter. */
export function unfinishedFolder(folder: string): string {
  return `${folder}/.unfinished`;
}

/** The path of a trial's checkpoint. */
export function checkpointPath(checkpoints: string, id: string): string {
  return `${checkpoints}/${id}${CHECKPOINT}`;
}

/** The ids of the trials whose checkpoints are in a folder; none if there is no such folder. */
export function checkpointOwners(checkpoints: string): string[] {
  if (!isFolder(checkpoints)) return [];
  return readdirSync(checkpoints)
    .filter((file) => file.endsWith(CHECKPOINT))
    .map((file) => file.slice(0, -CHECKPOINT.length));
}

/** The extension of checkpoint files. */
const CHECKPOINT = '.safetensors';

/** The folder of tuning trials, apart from the reported ones. */
export function tuningFolder(folder: string): string {
  return `${folder}/tuning`;
}

/** The folders that a run writes files into, results first. */
function runFolders(folder: string): WrittenFolders {
  return [`${folder}/results`, folder, `${tuningFolder(folder)}/results`, checkpointFolder(folder)];
}

/** The folders that a training writes files into, that of its adapter first. */
export function trainingFolders(folder: string): WrittenFolders {
  return [folder, unfinishedFolder(folder)];
}

/** The folders that a command writes files into. The first one is made in advance. */
type WrittenFolders = readonly [first: string, ...others: string[]];

/** How to claim a folder. */
export interface Claim {
  /** The folders in it, and maybe itself, that files are written into. Default those of a run. */
  readonly written?: WrittenFolders;
  /** Whether other shares of the run write into the folder too. Default false. */
  readonly isShared?: boolean;
}

/**
 * Prepares an output folder before anything is computed: locks it, checks that it can be written, and removes
 * half-written files of a killed process. A folder shared with other shares of the run is only checked: they write
 * other files, and may be writing right now.
 * @returns the lock; undefined for a shared folder.
 * @throws CheckpointError if it cannot be written.
 * @throws ConfigError if another run holds it.
 */
export async function claimFolder(
  folder: string,
  { written = runFolders(folder), isShared = false }: Claim = {},
): Promise<FolderLock | undefined> {
  const [first] = written;
  let lock: FolderLock | undefined;
  try {
    await makeFolder(first);
    if (!isShared) lock = await lockFolder(folder);
    const probe = `${first}/.writable`;
    await diskStorage().write(probe, new Uint8Array(PROBE_BYTES));
    await rm(probe, { force: true });
    for (const part of isShared ? [] : written) await removeHalfWritten(part);
    return lock;
  } catch (cause) {
    lock?.release();
    if (cause instanceof PeftError && cause.code === 'PEFT_CONFIG') throw cause;
    throw new CheckpointError(`--out ${folder} cannot be written: ${(cause as Error).message}`, folder, cause);
  }
}

/**
 * Creates a folder level by level: on a read-only disk, Node's `recursive` wrongly reports that the folder does not
 * exist.
 */
async function makeFolder(path: string): Promise<void> {
  if (existsSync(path)) return;
  await makeFolder(dirname(path));
  await mkdir(path).catch((error: unknown) => {
    if (!isFolder(path)) throw error; // another share of the run may just have made it
  });
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** About the size of a result: on a full disk, an empty file could still be written. */
const PROBE_BYTES = 16 * 1024;

/** Removes the checkpoint of a trial, and what is left of one whose process was killed while it wrote. */
export async function removeCheckpoint(checkpoints: string, id: string): Promise<void> {
  const own = (await filesIn(checkpoints)).filter((file) => file.startsWith(`${id}${CHECKPOINT}`));
  for (const file of own) await rm(`${checkpoints}/${file}`, { force: true }).catch(() => undefined); // the next run will remove it
}

/** Removes the checkpoints of finished trials, by default of all trials, and the folder if nothing else is in it. */
export async function removeCheckpoints(
  checkpoints: string,
  isFinished: (id: string) => boolean = () => true,
): Promise<void> {
  for (const id of checkpointOwners(checkpoints).filter(isFinished)) {
    await rm(checkpointPath(checkpoints, id), { force: true });
  }
  await rmdir(checkpoints).catch(() => undefined); // it may not exist, or hold other files
}

async function removeHalfWritten(folder: string): Promise<void> {
  for (const file of await filesIn(folder)) {
    if (UNFINISHED_FILE.test(file)) await rm(`${folder}/${file}`, { force: true });
  }
}

async function filesIn(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => []);
}

/** The lock of one run on its folder. */
export interface FolderLock {
  /** Releases the folder. */
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

/** The name of the lock file. */
const LOCK_FILE = '.lock';
/** How often to retry a lock that another process is just creating or removing, and the milliseconds in between. */
const LOOKS = 20;
const PAUSE_MS = 50;

/**
 * Locks a folder until `release`, or until this process ends for any reason: the lock of a dead process is taken over,
 * that of a process that may be alive never.
 * @throws ConfigError naming the process that holds the folder, or the lock file if that names none.
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
  throw new ConfigError(`--out ${folder}: ${path} names no process; delete it if no other run uses the folder`, 'out');
}

function ownLock(path: string, content: string): FolderLock {
  const release = (): void => {
    process.off('exit', release);
    try {
      if (readFileSync(path, 'utf8') === content) rmSync(path);
    } catch {
      // The folder is gone or read-only: whoever finds the lock sees that its process has ended.
    }
  };
  process.on('exit', release);
  return { release };
}

/** Creates a file; false if it exists. Removes it if it cannot be written completely. */
async function createdWith(path: string, content: string): Promise<boolean> {
  try {
    await writeFile(path, content, { flag: 'wx' });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    await rm(path, { force: true });
    throw error;
  }
}

/** The process that holds a lock; null if the lock has just been removed, or is not fully written. */
async function holderOf(path: string): Promise<ProcessIdentity | null> {
  try {
    const holder = v.safeParse(lockFile, JSON.parse(await readFile(path, 'utf8')));
    return holder.success ? holder.output : null;
  } catch {
    return null;
  }
}

/**
 * Removes the lock of a dead process; false if another process is doing so. A process may only remove the lock while it
 * holds the `.taken` file, and only if the lock is unchanged: another process may have locked the folder in the
 * meantime.
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
      `(if that process no longer exists, delete ${folder}/${LOCK_FILE})`,
    'out',
  );
}
