/** Brings a file here, and goes on where a connection was cut. */
import type { ByteSource } from '@peftjs/safetensors';
import type { HubSettings } from './options.js';
import { ATTEMPTS, codeOf, HubError, hubFetch, labelOf, pause, waitBefore, type Subject } from './request.js';
import type { ListedFile, RepoFile } from './snapshot.js';

/** What is here of a file. */
export interface Part {
  /** Bytes that are here. */
  readonly length: number;
  append(bytes: Uint8Array): Promise<void>;
}

/** A file at a commit. */
interface Wanted {
  readonly subject: Subject;
  readonly commit: string;
  readonly file: ListedFile;
}

/**
 * Appends to a part what it lacks of its file. A cut connection is taken up where it broke, as long as attempts bring bytes.
 * @param onBytes told how many bytes are here.
 * @throws HubError when the hub refuses, gives other than the file it listed, or breaks off again and again.
 */
export async function complete(
  part: Part,
  { subject, commit, file }: Wanted,
  settings: HubSettings,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const ask = hubFetch(settings, { ...subject, file: file.path });
  const url = addressOf(subject, commit, file.path, settings);
  onBytes(part.length);
  for (let fruitless = 0; part.length < file.size;) {
    const before = part.length;
    const headers: Record<string, string> = before === 0 ? {} : { range: `bytes=${before}-` };
    const cut = await receive(await ask(url, { headers }), part, { subject, file }, onBytes);
    if (part.length === file.size) return;
    fruitless = part.length > before ? 0 : fruitless + 1;
    if (fruitless === ATTEMPTS) throw broken(subject, part, file, cut);
    await pause(waitBefore(fruitless));
  }
}

/** Where a file lies. */
function addressOf({ repo, type }: Subject, commit: string, path: string, { endpoint }: HubSettings): string {
  const file = path.split('/').map(encodeURIComponent).join('/');
  return `${endpoint}/${type === 'dataset' ? 'datasets/' : ''}${repo}/resolve/${commit}/${file}`;
}

/** Appends a body to a part. @returns why it ended early, if it was cut. */
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
    await reader.cancel().catch(() => undefined); // a broken body cannot be given back
  }
}

/**
 * A server that knows no ranges begins at the beginning. A page may not be let see which range another server sends: then the hash
 * tells.
 * @throws HubError for a range that nobody asked for.
 */
function bytesToSkip({ status, headers }: Response, part: Part, { subject, file }: Omit<Wanted, 'commit'>): number {
  if (status !== 206) return part.length;
  const range = headers.get('content-range');
  if (range === null) return 0;
  if (range.startsWith(`bytes ${part.length}-`) && range.endsWith(`/${file.size}`)) return 0;
  throw changed(subject, file, `the range '${range}' in place of 'bytes ${part.length}-${file.size - 1}/${file.size}'`);
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
  return new HubError(`${path}: the hub lists ${size} bytes and sends ${got}: the file is not the one it promised`, {
    path,
  });
}

function broken(subject: Subject, part: Part, { path: file, size }: ListedFile, cause: unknown): HubError {
  const path = labelOf({ ...subject, file });
  return new HubError(
    `${path}: the connection was cut ${ATTEMPTS} times (${codeOf(cause ?? 'too few bytes')}) at ${part.length} of ${size} bytes; load it again to go on from there`,
    { path, cause, isOffline: true },
  );
}

/** Where the files of one repository are kept: complete and of the right hash, or not there. */
export interface HubCache {
  /** What messages call it. */
  readonly label: string;
  /** The commit at which a branch or tag stood when it was last asked for. */
  commitOf(revision: string): Promise<string | undefined>;
  remember(revision: string, commit: string): Promise<void>;
  /** The files of a commit that are here. */
  filesAt(commit: string): Promise<readonly RepoFile[]>;
  /** A file that is here; undefined where it is not. */
  open(commit: string, path: string): Promise<ByteSource | undefined>;
  /**
   * Keeps a file of a commit. What another commit has alike is not asked for again.
   * @param fill completes what is here of it.
   * @throws HubError when its bytes do not have its hash, or cannot be kept.
   */
  keep(commit: string, file: ListedFile, fill: (part: Part) => Promise<void>): Promise<void>;
}

/** Whether the hash of a file is a SHA-256 of its bytes, and not git's SHA-1 of them as a blob. */
export function isSha256({ hash }: ListedFile): boolean {
  return hash.length === 64;
}

/** What git hashes before the bytes of a file. */
export function gitPrefix({ size }: ListedFile): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new TextEncoder().encode(`blob ${size}\0`));
}

/** The error for bytes that are not those that were promised. */
export function mismatch(repo: string, file: ListedFile, got: string): HubError {
  const path = `${repo}/${file.path}`;
  const kind = isSha256(file) ? 'SHA-256' : "git's SHA-1";
  return new HubError(
    `${path}: expected ${kind} ${file.hash}, got ${got}: the download is damaged and was thrown away; load it again`,
    { path },
  );
}
