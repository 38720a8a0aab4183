import type { ByteSource } from '@peftjs/safetensors';
import type { Part } from './download.js';
import { HubError } from './error.js';
import type { ListedFile, RepoFile } from './snapshot.js';

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
