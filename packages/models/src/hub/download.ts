/**
 * Downloads a file, and resumes when the connection breaks.
 *
 * '@huggingface/hub' lists and commits files for us. Its downloads do not resume, retry, report progress, check length
 * and hash, or work offline, and two processes write one file.
 */
import type { ByteSource } from '@peftjs/safetensors';
import { isNode, type HubSettings } from './options.js';
import { ATTEMPTS, codeOf, HubError, hubFetch, labelOf, pause, waitBefore, type Subject } from './request.js';
import type { ListedFile, RepoFile } from './snapshot.js';

/** The part of a file that is already downloaded. */
export interface Part {
  /** The number of bytes downloaded. */
  readonly length: number;
  /** Adds bytes at its end. */
  append(bytes: Uint8Array): Promise<void>;
}

/** A file at a commit. */
interface Wanted {
  readonly subject: Subject;
  readonly commit: string;
  readonly file: ListedFile;
}

/**
 * The progress that a connection must make: at least so many bytes, and at least so large a share of the file, so that
 * their number is bounded.
 */
const LEAST_BYTES = 4096;
const LEAST_SHARE = 1e-4;

/**
 * Downloads the rest of a file. Resumes broken connections as long as attempts make progress.
 * @param onBytes Called with the number of bytes downloaded so far.
 * @throws HubError when the hub refuses, sends a different file than it listed, or the connection keeps breaking.
 */
export async function complete(
  part: Part,
  { subject, commit, file }: Wanted,
  settings: HubSettings,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const ask = hubFetch(settings, { ...subject, file: file.path });
  const url = addressOf(subject, commit, file.path, settings);
  const least = Math.max(LEAST_BYTES, LEAST_SHARE * file.size);
  onBytes(part.length);
  for (let stalled = 0; part.length < file.size;) {
    const before = part.length;
    const headers: Record<string, string> = before === 0 ? {} : { range: `bytes=${before}-` };
    const cut = await receive(await ask(url, { headers }), part, { subject, file }, onBytes);
    if (part.length === file.size) return;
    stalled = part.length - before >= least ? 0 : stalled + 1;
    if (stalled === ATTEMPTS) throw broken(subject, part, file, cut);
    await pause(waitBefore(stalled));
  }
}

/** Returns the URL of a file. */
function addressOf({ repo, type }: Subject, commit: string, path: string, { endpoint }: HubSettings): string {
  const file = path.split('/').map(encodeURIComponent).join('/');
  return `${endpoint}/${type === 'dataset' ? 'datasets/' : ''}${repo}/resolve/${commit}/${file}`;
}

/** Appends a response's body to a part. @returns The cause if the connection broke. */
async function receive(
  response: Response,
  part: Part,
  { subject, file }: Omit<Wanted, 'commit'>,
  onBytes: (bytes: number) => void,
): Promise<unknown> {
  const reader = response.body?.getReader();
  if (!reader) return undefined;
  let skip = bytesToSkip(response, part, { subject, file });
  try {
    for (;;) {
      const piece = await next(reader);
      if (!('bytes' in piece)) return piece.cut;
      const bytes = piece.bytes.subarray(Math.min(skip, piece.bytes.length));
      skip -= piece.bytes.length - bytes.length;
      if (part.length + bytes.length > file.size) throw changed(subject, file, `more than ${file.size} bytes`);
      await part.append(bytes);
      onBytes(part.length);
    }
  } finally {
    await reader.cancel().catch(() => undefined); // a broken body cannot be cancelled
  }
}

/**
 * Returns the number of bytes to skip: all that are here if the server ignores ranges and starts at the beginning. A
 * page may not see the `content-range` of another origin; the hash then reveals a wrong range.
 * @throws HubError for a range that was not requested.
 */
function bytesToSkip({ status, headers }: Response, part: Part, { subject, file }: Omit<Wanted, 'commit'>): number {
  if (status !== 206) return part.length;
  const range = headers.get('content-range');
  if (range === null) return 0;
  if (range.startsWith(`bytes ${part.length}-`) && range.endsWith(`/${file.size}`)) return 0;
  throw changed(subject, file, `the range '${range}' instead of 'bytes ${part.length}-${file.size - 1}/${file.size}'`);
}

async function next(
  reader: ReadableStreamDefaultReader<Uint8Array>,
): Promise<{ readonly bytes: Uint8Array } | { readonly cut: unknown }> {
  try {
    const { value } = await reader.read();
    return value ? { bytes: value } : { cut: undefined };
  } catch (cut) {
    return { cut };
  }
}

function changed(subject: Subject, { path: file, size }: ListedFile, got: string): HubError {
  const path = labelOf({ ...subject, file });
  return new HubError(`${path}: the hub listed ${size} bytes but sent ${got}: the file has changed`, {
    path,
  });
}

/** Only a folder keeps the part that is here: a page loses it. */
function broken(subject: Subject, part: Part, { path: file, size }: ListedFile, cause: unknown): HubError {
  const path = labelOf({ ...subject, file });
  return new HubError(
    `${path}: the connection was cut ${ATTEMPTS} times (${codeOf(cause ?? 'too few bytes')}) at ${part.length} of ${size} bytes; load it again${isNode() ? ' to resume' : ''}`,
    { path, cause, isOffline: true },
  );
}

/** The cache of one repository's files. Each is complete with the right hash, or absent. */
export interface HubCache {
  /** The name of the cache in messages. */
  readonly label: string;
  /** Returns the last known commit of a branch or tag; undefined if there is none. */
  commitOf(revision: string): Promise<string | undefined>;
  /** Stores the current commit of a branch or tag. */
  remember(revision: string, commit: string): Promise<void>;
  /** Returns the cached files of a commit. */
  filesAt(commit: string): Promise<readonly RepoFile[]>;
  /** Opens a cached file; undefined if it is not cached. */
  open(commit: string, path: string): Promise<ByteSource | undefined>;
  /**
   * Adds a file of a commit to the cache. On a disk, a file that another commit shares is not downloaded again.
   * @param fill Downloads the missing bytes.
   * @throws HubError when the bytes do not match the hash, or cannot be written.
   */
  keep(commit: string, file: ListedFile, fill: (part: Part) => Promise<void>): Promise<void>;
}

/** Whether a file's hash is the SHA-256 of its bytes. If not, it is git's SHA-1 of the blob. */
export function isSha256({ hash }: ListedFile): boolean {
  return hash.length === 64;
}

/** Returns the prefix that git hashes before the bytes of a file. */
export function gitPrefix({ size }: ListedFile): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new TextEncoder().encode(`blob ${size}\0`));
}

/** The error for bytes that do not match the listed hash. */
export function mismatch(repo: string, file: ListedFile, got: string): HubError {
  const path = `${repo}/${file.path}`;
  const kind = isSha256(file) ? 'SHA-256' : "git's SHA-1";
  return new HubError(
    `${path}: expected ${kind} ${file.hash}, got ${got}: the download is damaged and was deleted; load it again`,
    { path },
  );
}
