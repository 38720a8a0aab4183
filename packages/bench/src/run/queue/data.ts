import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve, sep } from 'node:path';
import type { Redis } from 'ioredis';
import { diskStorage, type Storage } from '@peftjs/core';
import { DataError, warnOnce } from '@peftjs/core/method';
import { loadTask, type DataSource } from '../../registry/tasks.js';
import type { Trial, TrialProtocol } from '../../study/trials.js';
import { KEEP_SECONDS, MOST_BYTES, PREFIX, type TravellingFile, type TrialJob } from './contract.js';

/* How the data of a trial come to another machine: through Redis, by the hash of their content. */

/** The data of a task, ready to go. */
export interface PackedData {
  /** As `TrialJob` has them. */
  readonly data: DataSource;
  readonly files: readonly TravellingFile[];
  /** By hash. */
  readonly contents: ReadonlyMap<string, Uint8Array>;
}

/** What says which files a trial reads. */
type TrialFiles = Pick<Trial, 'task' | 'data'> & { readonly protocol: Pick<TrialProtocol, 'split'> };

/** The files that a trial reads. Too large ones stay where they are, which is said once. */
export async function packData(trial: TrialFiles, mostBytes = MOST_BYTES): Promise<PackedData> {
  const { task, data } = trial;
  if (data.kind === 'embedded') return { data, files: [], contents: new Map() };
  const read = await filesRead(trial);
  const total = read.reduce((sum, { content }) => sum + content.byteLength, 0);
  if (total > mostBytes) {
    const stays = inPlace(data);
    warnOnce(
      `the files of ${task} have ${Math.ceil(total / 2 ** 20)} MiB, more than the ${Math.floor(mostBytes / 2 ** 20)} that go through Redis: ` +
        `workers read them from ${placeOf(stays)}; put them on a path that all machines share and name it by --data`,
    );
    return { data: stays, files: [], contents: new Map() };
  }
  const paths = travellingPaths(data);
  const contents = new Map(read.map(({ content }) => [hashOf(content), content] as const));
  const files = read.map(({ path, content }) => ({
    path: paths.name(path),
    sha256: hashOf(content),
    bytes: content.byteLength,
  }));
  return { data: paths.data, files, contents };
}

/** Puts files into Redis where they are not there yet. */
export async function sendData(redis: Redis, { contents }: Pick<PackedData, 'contents'>): Promise<void> {
  for (const [hash, content] of contents) {
    const isThere = await redis.expire(keyOf(hash), KEEP_SECONDS);
    if (!isThere) await redis.set(keyOf(hash), Buffer.from(content), 'EX', KEEP_SECONDS);
  }
}

/**
 * Where the data of a job are on this machine, fetched if need be. Files are readable by their owner alone.
 * @throws DataError when Redis has them no longer, or others than the job names.
 */
export async function unpackData(redis: Redis, { data, files }: TrialJob, folders: DataFolders): Promise<DataSource> {
  if (files.length === 0 || data.kind === 'embedded') return data;
  const folder = await folders.folderOf(hashOf(Buffer.from(JSON.stringify(files))).slice(0, 32));
  for (const file of files) await fetchFile(redis, file, join(folder, file.path));
  return data.kind === 'files' ? { ...data, ...filesAt(data, (path) => join(folder, path)) } : { ...data, folder };
}

async function fetchFile(redis: Redis, { path, sha256, bytes }: TravellingFile, target: string): Promise<void> {
  if (existsSync(target) && hashOf(await readFile(target)) === sha256) return;
  const isAsLong = (await redis.strlen(keyOf(sha256))) === bytes; // asked first: what is longer is not even fetched
  const content = isAsLong ? await redis.getBuffer(keyOf(sha256)) : null;
  if (content === null || hashOf(content) !== sha256) {
    throw new DataError(`${path} is not in Redis as the run has it`, path);
  }
  await mkdir(dirname(target), { recursive: true, mode: 0o700 });
  const temporary = `${target}.${process.pid}.${Math.random().toString(36).slice(2)}.tmp`;
  await writeFile(temporary, content, { mode: 0o600, flag: 'wx' });
  await rename(temporary, target);
}

/** Reads a task once more, and keeps what is read. */
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

/** Two files of one name stay apart; what lies in a folder keeps its place there. */
function travellingPaths(source: Exclude<DataSource, { kind: 'embedded' }>): {
  readonly data: DataSource;
  name(path: string): string;
} {
  if (source.kind === 'folder') {
    return {
      data: { ...source, folder: '.' },
      name: (path) => relative(source.folder, path).split(sep).join('/'),
    };
  }
  const name = (path: string): string => `${path === source.train ? 'train' : 'dev'}/${basename(path)}`;
  return { data: { ...source, ...filesAt(source, name) }, name };
}

function inPlace(data: Exclude<DataSource, { kind: 'embedded' }>): Exclude<DataSource, { kind: 'embedded' }> {
  return data.kind === 'folder'
    ? { ...data, folder: resolve(data.folder) }
    : { ...data, ...filesAt(data, (path) => resolve(path)) };
}

/** The files of a task elsewhere. */
function filesAt(
  { train, dev }: { readonly train: string; readonly dev?: string | undefined },
  place: (path: string) => string,
): { readonly train: string; readonly dev?: string } {
  return { train: place(train), ...(dev !== undefined && { dev: place(dev) }) };
}

function placeOf(data: Exclude<DataSource, { kind: 'embedded' }>): string {
  return data.kind === 'folder' ? data.folder : [data.train, data.dev ?? []].flat().join(' and ');
}

function hashOf(content: Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}

function keyOf(hash: string): string {
  return `${PREFIX}:data:${hash}`;
}

/** Folders that are kept, of at most 50 MiB each. */
const MOST_FOLDERS = 20;
/** What no trial has asked for so long is removed. */
const KEPT_MS = 24 * 3600 * 1000;

/** Where a worker keeps the users' files that came through Redis: one folder for each set of them. */
export interface DataFolders {
  /** The folder of a set of files, readable by its owner alone. Those that are old, or too many, are removed. */
  folderOf(set: string): Promise<string>;
  /** Removes the folders that this worker has used. Another worker of the machine fetches them again. */
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
      await removeUnused(root);
      return folder;
    },
    async close() {
      for (const folder of used) await remove(folder);
    },
  };
}

async function removeUnused(root: string): Promise<void> {
  const folders = await Promise.all((await readdir(root)).map((name) => lastUse(join(root, name))));
  const newestFirst = folders.sort((a, b) => b.at - a.at);
  for (const [index, { path, at }] of newestFirst.entries()) {
    if (index >= MOST_FOLDERS || Date.now() - at > KEPT_MS) await remove(path);
  }
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
