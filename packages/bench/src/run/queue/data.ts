import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve, sep } from 'node:path';
import type { Redis } from 'ioredis';
import { diskStorage, type Storage } from '@peftjs/core';
import { DataError, warnOnce } from '@peftjs/core/method';
import { loadTask, type DataSource, type Trial, type TrialProtocol } from '@peftjs/cli/trials';
import { KEEP_SECONDS, MAX_BYTES, PREFIX, type SentFile, type TrialJob } from './contract.js';

/* Sends the data of a trial to other machines: through Redis, keyed by the hash of their content. */

/** The data of a task, ready to send. */
export interface PackedData {
  /** The data with paths as `TrialJob` has them. */
  readonly data: DataSource;
  /** The files to send. */
  readonly files: readonly SentFile[];
  /** The files' contents, by hash. */
  readonly contents: ReadonlyMap<string, Uint8Array>;
}

/** The settings that decide which files a trial reads. */
type TrialFiles = Pick<Trial, 'task' | 'data'> & { readonly protocol: Pick<TrialProtocol, 'split'> };

/** Packs the files that a trial reads. Files that are too large stay in place, with a warning. */
export async function packData(trial: TrialFiles, mostBytes = MAX_BYTES): Promise<PackedData> {
  const { task, data } = trial;
  if (data.kind === 'embedded') return { data, files: [], contents: new Map() };
  const read = await filesRead(trial);
  const total = read.reduce((sum, { content }) => sum + content.byteLength, 0);
  if (total > mostBytes) {
    const stays = withPaths(data, (path) => resolve(path));
    warnOnce(
      `the files of ${task} have ${Math.ceil(total / 2 ** 20)} MiB, more than the ${Math.floor(mostBytes / 2 ** 20)} MiB that go through Redis, so ` +
        `workers read them from ${pathsOf(stays).join(' and ')}; put them on a path that all machines share, and give it with --data`,
    );
    return { data: stays, files: [], contents: new Map() };
  }
  const nameOf = sentName(data);
  const contents = new Map(read.map(({ content }) => [hashOf(content), content] as const));
  const files = read.map(({ path, content }) => ({
    path: nameOf(path),
    sha256: hashOf(content),
    bytes: content.byteLength,
  }));
  return { data: withPaths(data, nameOf), files, contents };
}

/** Puts files into Redis, unless they are there already; all at once, since images are thousands of files. */
export async function sendData(redis: Redis, { contents }: Pick<PackedData, 'contents'>): Promise<void> {
  await Promise.all(
    [...contents].map(async ([hash, content]) => {
      const isThere = await redis.expire(keyOf(hash), KEEP_SECONDS);
      if (!isThere) await redis.set(keyOf(hash), Buffer.from(content), 'EX', KEEP_SECONDS);
    }),
  );
}

/**
 * Returns where a job's data are on this machine, and fetches them if needed. Only their owner can read the files.
 * @throws DataError if Redis no longer has them, or has others than the job names.
 */
export async function unpackData(redis: Redis, { data, files }: TrialJob, folders: DataFolders): Promise<DataSource> {
  if (files.length === 0 || data.kind === 'embedded') return data;
  const folder = await folders.folderOf(hashOf(Buffer.from(JSON.stringify(files))).slice(0, 32));
  for (const file of files) await fetchFile(redis, file, join(folder, file.path));
  return withPaths(data, (path) => join(folder, path));
}

async function fetchFile(redis: Redis, { path, sha256, bytes }: SentFile, target: string): Promise<void> {
  if (existsSync(target) && hashOf(await readFile(target)) === sha256) return;
  const isAsLong = (await redis.strlen(keyOf(sha256))) === bytes; // checked first, so that longer content is not fetched
  const content = isAsLong ? await redis.getBuffer(keyOf(sha256)) : null;
  if (content === null || hashOf(content) !== sha256) {
    throw new DataError(`${path} is missing in Redis, or differs from the run's`, path);
  }
  await mkdir(dirname(target), { recursive: true, mode: 0o700 });
  const temporary = `${target}.${process.pid}.${Math.random().toString(36).slice(2)}.tmp`;
  await writeFile(temporary, content, { mode: 0o600, flag: 'wx' });
  await rename(temporary, target);
}

/** Loads a task to see which files it reads, and keeps their content. */
async function filesRead({ task, data, protocol }: TrialFiles) {
  const read = new Map<string, Uint8Array>();
  const disk = diskStorage();
  const storage: Storage = {
    exists: (path) => disk.exists(path),
    write: (path, bytes) => disk.write(path, bytes),
    async read(path) {
      const content = await disk.read(path);
      read.set(path, content);
      return content;
    },
  };
  await loadTask(task, data, protocol.split, storage);
  return [...read].map(([path, content]) => ({ path, content }));
}

/** Data that are files of the user. */
type UserData = Exclude<DataSource, { kind: 'embedded' }>;

/**
 * Names the paths under which data are sent. Files of the same name stay apart; files in a folder keep their relative
 * paths.
 */
function sentName(data: UserData): (path: string) => string {
  if (data.kind === 'folder') return (path) => relative(data.folder, path).split(sep).join('/') || '.';
  return (path) => `${path === data.train ? 'train' : 'dev'}/${basename(path)}`;
}

/** The same data at other paths. */
function withPaths(data: UserData, place: (path: string) => string): UserData {
  if (data.kind === 'folder') return { ...data, folder: place(data.folder) };
  const { train, dev } = data;
  return { ...data, train: place(train), ...(dev !== undefined && { dev: place(dev) }) };
}

function pathsOf(data: UserData): string[] {
  return data.kind === 'folder' ? [data.folder] : [data.train, data.dev ?? []].flat();
}

function hashOf(content: Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}

function keyOf(hash: string): string {
  return `${PREFIX}:data:${hash}`;
}

/** The number of folders to keep, of at most 50 MiB each. */
const MAX_FOLDERS = 20;
/** Folders that no trial has used for this many milliseconds are removed. */
const KEPT_MS = 24 * 3600 * 1000;

/** The folders of user files that came through Redis, one per set of files. */
export interface DataFolders {
  /** Returns the folder of a set of files, readable only by its owner. Removes folders that are old or too many. */
  folderOf(set: string): Promise<string>;
  /** Removes the folders that this worker has used. Other workers of the machine fetch them again. */
  close(): Promise<void>;
}

/** The folders below SCRATCH/data. */
export function dataFolders(scratch: string): DataFolders {
  const root = join(scratch, 'data');
  const used = new Set<string>();
  return {
    async folderOf(set) {
      const folder = join(root, set);
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await utimes(folder, new Date(), new Date());
      used.add(folder);
      await removeUnused(root, { most: MAX_FOLDERS, ms: KEPT_MS });
      return folder;
    },
    async close() {
      for (const folder of used) await remove(folder);
    },
  };
}

/** Removes what was not used for `ms` milliseconds from a folder, and keeps the `most` newest of the rest. */
export async function removeUnused(root: string, { most = Infinity, ms }: Kept): Promise<void> {
  const names = await readdir(root).catch(() => []); // nothing was kept yet
  const uses = await Promise.all(names.map((name) => lastUse(join(root, name))));
  const newestFirst = uses.sort((a, b) => b.at - a.at);
  for (const [index, { path, at }] of newestFirst.entries()) {
    if (index >= most || Date.now() - at > ms) await remove(path);
  }
}

/** What of a folder is kept. */
interface Kept {
  /** At most this many entries. Default all. */
  readonly most?: number;
  /** Those used within this many milliseconds. */
  readonly ms: number;
}

async function lastUse(path: string): Promise<{ readonly path: string; readonly at: number }> {
  const at = await stat(path).then(
    ({ mtimeMs }) => mtimeMs,
    () => 0, // another worker has just removed it
  );
  return { path, at };
}

function remove(path: string): Promise<void> {
  return rm(path, { recursive: true, force: true });
}
