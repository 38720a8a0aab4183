/**
 * The cache of Python's huggingface_hub, on a disk: `blobs/<hash>` hold the bytes, `snapshots/<commit>/<path>` point to them,
 * `refs/<revision>` name commits. What Python has downloaded is found here, and the other way round.
 */
import { diskStorage, PeftError } from '@peftjs/core';
import { fileSource } from '@peftjs/safetensors';
import { joined } from '../folder.js';
import type { HubCache } from './cache.js';
import { bringBlob, temporaryName, type Modules } from './disk-blob.js';
import { HubError } from './error.js';
import { codeOf } from './request.js';
import { isCommit, type ListedFile, type RepoFile } from './snapshot.js';
import type { RepoType } from './subject.js';

/** The folder of one repository. */
export async function diskCache(repo: string, type: RepoType, cacheDir: string | undefined): Promise<HubCache> {
  const { getHFHubCachePath, getRepoFolderName } = await import('@huggingface/hub');
  const root = joined(cacheDir ?? getHFHubCachePath(), getRepoFolderName({ type, name: repo }));
  const modules: Modules = {
    fs: await import(/* @vite-ignore */ 'node:fs/promises'),
    crypto: await import(/* @vite-ignore */ 'node:crypto'),
  };
  const pointer = (commit: string, path: string): string => `${root}/snapshots/${commit}/${path}`;
  return {
    label: root,
    commitOf: (revision) => readRef(`${root}/refs/${revision}`, modules),
    async remember(revision, commit) {
      const ref = `${root}/refs/${revision}`;
      if ((await readRef(ref, modules)) === commit) return;
      await onDisk(root, () => diskStorage().write(ref, new TextEncoder().encode(commit)));
    },
    filesAt: (commit) => filesBelow(`${root}/snapshots/${commit}`, modules),
    async open(commit, path) {
      const size = await sizeOf(pointer(commit, path), modules);
      return size === undefined ? undefined : fileSource(pointer(commit, path));
    },
    keep: (commit, file, fill) =>
      onDisk(root, async () => {
        const blob = `${root}/blobs/${file.hash}`;
        await modules.fs.mkdir(`${root}/blobs`, { recursive: true });
        if ((await sizeOf(blob, modules)) !== file.size) await bringBlob({ repo, blob, file }, fill, modules);
        await point(pointer(commit, file.path), blob, file, modules);
      }),
  };
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

/** Bytes of a file, through a link as well; undefined where there is none. */
async function sizeOf(path: string, { fs }: Modules): Promise<number | undefined> {
  const status = await fs.stat(path).catch(() => undefined);
  return status?.isFile() ? status.size : undefined;
}

/**
 * Makes a snapshot point to a blob, at once: by a relative link, so that the cache may move; where links are forbidden, by a
 * copy.
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
      throw new HubError(`cannot keep files in ${root} (${codeOf(cause)}): choose another folder with cacheDir`, {
        path: root,
        cause,
      });
    }
    throw cause;
  }
}
