/**
 * The disk cache of Python's huggingface_hub: `blobs/<hash>` hold the bytes, `snapshots/<commit>/<path>` link to them,
 * and `refs/<revision>` name commits. Both libraries find each other's downloads.
 */
import { diskStorage, PeftError } from '@peftjs/core';
import { isDeadTag, nodeModule, ownTag } from '@peftjs/core/model';
import { fileSource } from '@peftjs/safetensors';
import type { Hash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { joined } from '../folder.js';
import { gitPrefix, isSha256, mismatch, type HubCache, type Part } from './download.js';
import { codeOf, HubError, type RepoType } from './request.js';
import { isCommit, type ListedFile, type RepoFile } from './snapshot.js';

/** Opens the cache folder of one repository. */
export async function diskCache(repo: string, type: RepoType, cacheDir: string | undefined): Promise<HubCache> {
  const { getRepoFolderName } = await import('@huggingface/hub');
  const root = joined(cacheDir ?? pythonCache(), getRepoFolderName({ type, name: repo }));
  const modules: Modules = {
    fs: nodeModule('node:fs/promises') as typeof import('node:fs/promises'),
    crypto: nodeModule('node:crypto') as typeof import('node:crypto'),
  };
  const pointer = (commit: string, path: string): string => `${root}/snapshots/${commit}/${path}`;
  return {
    label: root,
    commitOf: (revision) => readRef(`${root}/refs/${revision}`, modules),
    remember: (revision, commit) =>
      onDisk(root, () => diskStorage().write(`${root}/refs/${revision}`, new TextEncoder().encode(commit))),
    filesAt: (commit) => filesBelow(`${root}/snapshots/${commit}`, modules),
    async open(commit, path) {
      const size = await sizeOf(pointer(commit, path), modules);
      return size === undefined ? undefined : fileSource(pointer(commit, path));
    },
    keep: (commit, file, fill) =>
      onDisk(root, async () => {
        const blob = `${root}/blobs/${file.hash}`;
        await modules.fs.mkdir(`${root}/blobs`, { recursive: true });
        if ((await sizeOf(blob, modules)) !== file.size) await completeBlob({ repo, blob, file }, fill, modules);
        await point(pointer(commit, file.path), blob, file, modules);
      }),
  };
}

/**
 * Returns the default cache folder of Python's huggingface_hub. As there, `~` and `$NAME` in its environment variables
 * are expanded.
 */
function pythonCache(): string {
  const { env } = globalThis.process;
  const { homedir } = nodeModule('node:os') as typeof import('node:os');
  const home = env.HF_HOME ?? joined(env.XDG_CACHE_HOME ?? '~/.cache', 'huggingface');
  const folder = env.HF_HUB_CACHE ?? env.HUGGINGFACE_HUB_CACHE ?? joined(home, 'hub');
  return folder
    .replace(/^~(?=[/\\]|$)/, () => homedir())
    .replace(/\$(\w+|\{[^{}]*\})/g, (all: string, name: string) => env[name.replace(/[{}]/g, '')] ?? all);
}

async function readRef(path: string, { fs }: Modules): Promise<string | undefined> {
  const commit = (await fs.readFile(path, 'utf8').catch(() => '')).trim();
  return isCommit(commit) ? commit : undefined;
}

async function filesBelow(folder: string, modules: Modules): Promise<RepoFile[]> {
  const names = await modules.fs.readdir(folder, { recursive: true }).catch(() => []);
  const files: RepoFile[] = [];
  for (const name of names.sort()) {
    const size = await sizeOf(`${folder}/${name}`, modules);
    if (size !== undefined) files.push({ path: name.replaceAll('\\', '/'), size });
  }
  return files;
}

/** Returns the size of a file in bytes, following links; undefined if there is no file. */
async function sizeOf(path: string, { fs }: Modules): Promise<number | undefined> {
  const status = await fs.stat(path).catch(() => undefined);
  return status?.isFile() ? status.size : undefined;
}

/**
 * Links a snapshot's file to a blob, atomically. The link is relative, so that the cache can be moved; where links are
 * forbidden, the blob is copied.
 */
async function point(pointer: string, blob: string, { path, hash, size }: ListedFile, modules: Modules): Promise<void> {
  if ((await sizeOf(pointer, modules)) === size) return;
  const { fs } = modules;
  await fs.mkdir(pointer.slice(0, pointer.lastIndexOf('/')), { recursive: true });
  const up = '../'.repeat(path.split('/').length + 1);
  const temporary = temporaryName(blob, String(globalThis.process.pid), 'link');
  await fs.symlink(`${up}blobs/${hash}`, temporary).catch(() => fs.copyFile(blob, temporary));
  await fs.rename(temporary, pointer);
}

async function onDisk<T>(root: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof HubError) throw cause;
    if (cause instanceof PeftError || (cause as { syscall?: unknown }).syscall !== undefined) {
      throw new HubError(`cannot write files to ${root} (${codeOf(cause)}): choose another folder with cacheDir`, {
        path: root,
        cause,
      });
    }
    throw cause;
  }
}

/**
 * Downloads a file to the disk. The bytes go to a file owned by this process and are hashed, flushed and renamed, so a
 * blob is either complete or absent. The next download resumes an interrupted one.
 */

/** Node's modules, loaded when the disk is first used. */
interface Modules {
  readonly fs: typeof import('node:fs/promises');
  readonly crypto: typeof import('node:crypto');
}

/** A file to download, and the path of its blob. */
interface MissingBlob {
  readonly repo: string;
  readonly blob: string;
  readonly file: ListedFile;
}

/** The number of bytes hashed at once. */
const PIECE_BYTES = 2 ** 20;

/** Matches an incomplete download. Its name identifies the process that owns it; without one, it has no owner. */
const INCOMPLETE = /\.peftjs(?:-([\w-]+)-\w+)?\.incomplete$/;

/**
 * Completes a file and renames it to its blob. If a resumed download is damaged, it is deleted and downloaded once
 * more.
 * @throws HubError when the bytes do not match the file's hash.
 */
export async function completeBlob(
  missing: MissingBlob,
  fill: (part: Part) => Promise<void>,
  modules: Modules,
): Promise<void> {
  const { fs } = modules;
  const { repo, blob, file } = missing;
  const own = await claimed(blob, modules);
  const { hash, resumed } = await filled(own, file, fill, modules).catch(async (error: unknown) => {
    await fs.rename(own, `${blob}.peftjs.incomplete`).catch(() => undefined); // it may never have been made
    throw error;
  });
  if (hash === file.hash) {
    await fs.rename(own, blob).catch(async (error: unknown) => {
      const there = await fs.stat(blob).catch(() => undefined);
      if (codeOf(error) !== 'ENOENT' || there?.size !== file.size) throw error; // else another process completed it
    });
    return;
  }
  await fs.rm(own, { force: true });
  if (!resumed) throw mismatch(repo, file, hash);
  return completeBlob(missing, fill, modules);
}

/** Returns a unique name for a temporary file next to a blob. */
function temporaryName(blob: string, owner: string, kind: 'incomplete' | 'link'): string {
  return `${blob}.peftjs-${owner}-${Math.random().toString(36).slice(2)}.${kind}`;
}

/** Returns the path of this process's incomplete download. Takes over an abandoned one if there is any. */
async function claimed(blob: string, { fs }: Modules): Promise<string> {
  const own = temporaryName(blob, await ownTag(), 'incomplete');
  const [folder, name] = [blob.slice(0, blob.lastIndexOf('/')), blob.slice(blob.lastIndexOf('/') + 1)];
  for (const rest of await fs.readdir(folder)) {
    if (!rest.startsWith(`${name}.`) || !(await isAbandoned(rest))) continue;
    const isOurs = await fs.rename(`${folder}/${rest}`, own).then(
      () => true,
      () => false, // another process was faster
    );
    if (isOurs) return own;
  }
  return own;
}

async function isAbandoned(rest: string): Promise<boolean> {
  const [isIncomplete, owner] = INCOMPLETE.exec(rest) ?? [];
  return isIncomplete !== undefined && (owner === undefined || isDeadTag(owner));
}

async function filled(
  path: string,
  file: ListedFile,
  fill: (part: Part) => Promise<void>,
  { fs, crypto }: Modules,
): Promise<{ readonly hash: string; readonly resumed: boolean }> {
  const handle = await fs.open(path, fs.constants.O_RDWR | fs.constants.O_CREAT);
  try {
    const hash = crypto.createHash(isSha256(file) ? 'sha256' : 'sha1');
    if (!isSha256(file)) hash.update(gitPrefix(file));
    const here = await hashed(handle, file, hash);
    await fill(partOf(handle, here, hash));
    await handle.sync();
    return { hash: hash.digest('hex'), resumed: here > 0 };
  } finally {
    await handle.close();
  }
}

/** Hashes the bytes downloaded so far and returns their number. A file that is too long is emptied. */
async function hashed(handle: FileHandle, { size }: ListedFile, hash: Hash): Promise<number> {
  const { size: here } = await handle.stat();
  if (here > size) await handle.truncate(0);
  if (here > size) return 0;
  const piece = new Uint8Array(PIECE_BYTES);
  let at = 0;
  while (at < here) {
    const { bytesRead } = await handle.read(piece, 0, Math.min(piece.length, here - at), at);
    if (bytesRead === 0) break;
    hash.update(piece.subarray(0, bytesRead));
    at += bytesRead;
  }
  return at;
}

function partOf(handle: FileHandle, here: number, hash: Hash): Part {
  let length = here;
  return {
    get length() {
      return length;
    },
    async append(bytes) {
      for (let written = 0; written < bytes.length;) {
        const { bytesWritten } = await handle.write(bytes, written, bytes.length - written, length + written);
        written += bytesWritten;
      }
      hash.update(bytes);
      length += bytes.length;
    },
  };
}
