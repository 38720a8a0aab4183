import { mkdir, readdir, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';

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
