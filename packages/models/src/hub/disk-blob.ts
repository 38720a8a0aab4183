/**
 * Brings the bytes of a file to a disk: they go to a file that belongs to this process, are hashed, flushed and then renamed, so
 * that a blob is complete or absent. What a cut or killed download leaves is taken up by the next one.
 */
import type { FileHandle } from 'node:fs/promises';
import type { Hash } from 'node:crypto';
import { gitPrefix, isSha256, mismatch } from './cache.js';
import type { Part } from './download.js';
import { codeOf } from './request.js';
import { isDead, ownIdentity, type ProcessIdentity } from './process-identity.js';
import type { ListedFile } from './snapshot.js';

/** Node's modules, loaded when the disk is first used. */
export interface Modules {
  readonly fs: typeof import('node:fs/promises');
  readonly crypto: typeof import('node:crypto');
}

/** A file that is not here, and where it will be. */
interface MissingBlob {
  readonly repo: string;
  readonly blob: string;
  readonly file: ListedFile;
}

/** As much of a file as is hashed at once. */
const PIECE_BYTES = 2 ** 20;

/** Whose a file is that is not complete: a process's, by the parts of its name, or nobody's any more. */
const INCOMPLETE = /\.peftjs(?:-(\d+)-(\w+)-(\w+)-(\w+)-(\w+)-(\w+)-\w+)?\.incomplete$/;
/** What stands in a name for what the system does not tell. */
const UNKNOWN = '0';

/**
 * Completes a file and gives it its name. A rest that turns out to be damaged is forgotten and the file brought anew, once.
 * @throws HubError when the bytes do not have the file's hash.
 */
export async function bringBlob(
  missing: MissingBlob,
  fill: (part: Part) => Promise<void>,
  modules: Modules,
): Promise<void> {
  const { fs } = modules;
  const { repo, blob, file } = missing;
  const own = await claimed(blob, modules);
  const { hash, resumed } = await filled(own, file, fill, modules).catch(async (error: unknown) => {
    await fs.rename(own, `${blob}.peftjs.incomplete`);
    throw error;
  });
  if (hash === file.hash) {
    await fs.rename(own, blob).catch(async (error: unknown) => {
      const there = await fs.stat(blob).catch(() => undefined);
      if (codeOf(error) !== 'ENOENT' || there?.size !== file.size) throw error; // else another process has completed it
    });
    return;
  }
  await fs.rm(own, { force: true });
  if (!resumed) throw mismatch(repo, file, hash);
  return bringBlob(missing, fill, modules);
}

/** A name beside a blob that nobody else gives. */
export function temporaryName(blob: string, owner: string, kind: 'incomplete' | 'link'): string {
  return `${blob}.peftjs-${owner}-${Math.random().toString(36).slice(2)}.${kind}`;
}

/** Such a name of this process, with what an earlier one left behind where there is such a rest. */
async function claimed(blob: string, { fs, crypto }: Modules): Promise<string> {
  const self = shortened(await ownIdentity(), crypto);
  const { pid, host, machine, boot, namespace, start } = self;
  const owner = [pid, host, machine, boot, namespace, start].map((part) => part ?? UNKNOWN).join('-');
  const own = temporaryName(blob, owner, 'incomplete');
  const [folder, name] = [blob.slice(0, blob.lastIndexOf('/')), blob.slice(blob.lastIndexOf('/') + 1)];
  for (const rest of await fs.readdir(folder)) {
    if (!rest.startsWith(`${name}.`) || !(await isAbandoned(rest, self))) continue;
    const isOurs = await fs.rename(`${folder}/${rest}`, own).then(
      () => true,
      () => false, // another process was faster
    );
    if (isOurs) return own;
  }
  return own;
}

/** A process as it is written in a name: containers that share a cache give the same process numbers. */
function shortened(
  { pid, host, machine, boot, namespace, start }: ProcessIdentity,
  crypto: Modules['crypto'],
): ProcessIdentity {
  const short = (text: string): string => crypto.createHash('sha256').update(text).digest('hex').slice(0, 12);
  const shortOr = (text: string | null): string | null => (text === null ? null : short(text));
  return {
    pid,
    host: short(host),
    machine: shortOr(machine),
    boot: shortOr(boot),
    namespace: shortOr(namespace),
    start,
  };
}

async function isAbandoned(rest: string, self: ProcessIdentity): Promise<boolean> {
  const owner = INCOMPLETE.exec(rest);
  if (!owner) return false;
  const [, pid, host = '', ...others] = owner;
  if (pid === undefined) return true;
  const [machine = null, boot = null, namespace = null, start = null] = others.map((part) =>
    part === UNKNOWN ? null : part,
  );
  return isDead({ pid: Number(pid), host, machine, boot, namespace, start }, self);
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

/** Hashes what is there already. @returns its length; a rest that is too long is thrown away. */
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
