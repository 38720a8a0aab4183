/** Node's file system. */
export type FileSystem = Pick<
  typeof import('node:fs/promises'),
  'lstat' | 'mkdir' | 'open' | 'readdir' | 'readFile' | 'rename' | 'rm' | 'rmdir'
>;

/** Writes a temporary file next to the target, flushes it, and renames it over the target. */
export async function writeAtomically(fs: FileSystem, path: string, bytes: Uint8Array): Promise<void> {
  const folder = folderOf(path);
  await fs.mkdir(folder, { recursive: true });
  const temporary = `${path}.${Math.random().toString(36).slice(2)}.tmp`;
  try {
    await writeFlushed(fs, temporary, bytes);
    await fs.rename(temporary, path);
    await flushFolder(fs, folder);
  } catch (cause) {
    await fs.rm(temporary, { force: true });
    throw cause;
  }
}

/** Writes a new file such that it survives a power loss. */
export async function writeFlushed({ open }: FileSystem, path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'wx');
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Makes renames in a folder survive a power loss, on systems that can flush folders. */
export async function flushFolder({ open }: FileSystem, folder: string): Promise<void> {
  const handle = await open(folder, 'r').catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}

/** Returns the folder of a path. */
export function folderOf(path: string): string {
  return path.includes('/') ? path.slice(0, path.lastIndexOf('/')) || '/' : '.';
}

/** Returns the system's code of an error, e.g. 'ENOENT'. */
export function codeOf(error: unknown): unknown {
  return (error as { readonly code?: unknown }).code;
}

/** Returns an error's message without the system call and the temporary file's name. */
export function reason(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  const { syscall } = cause as { readonly syscall?: unknown };
  const end = typeof syscall === 'string' ? cause.message.lastIndexOf(`, ${syscall}`) : -1;
  return end < 0 ? cause.message : cause.message.slice(0, end);
}
