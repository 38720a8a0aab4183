/** Lists the files of a repository at a commit. */
import { PeftError } from '@peftjs/core';
import { reasonOf, shown } from '../json.js';
import { HubError, hubFetch, labelOf, type Subject } from './request.js';
import type { HubSettings } from './options.js';

/** A file of a repository. */
export interface RepoFile {
  /** The path in the repository, with slashes. */
  readonly path: string;
  /** The size in bytes. */
  readonly size: number;
}

/** A file with the hash of its bytes. */
export interface ListedFile extends RepoFile {
  /** In hexadecimal: the SHA-256 of a large file, else git's SHA-1 of a blob. */
  readonly hash: string;
}

/** A repository at a commit. */
export interface Snapshot {
  /** The hash of the commit. */
  readonly commit: string;
  /** All files of the commit. */
  readonly files: readonly ListedFile[];
}

const MAX_FILES = 100_000;
/** The hub sends up to 1,000 files per page. */
const MAX_PAGES = 500;
const MAX_ANSWER_BYTES = 64 * 2 ** 20;
const COMMIT = /^[0-9a-f]{40}$/;
const HASH = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;

/** Whether a revision is a full commit hash, whose content never changes. */
export function isCommit(revision: string): boolean {
  return COMMIT.test(revision);
}

/**
 * Fetches a snapshot from the hub.
 * @throws HubError when the hub refuses, cannot be reached, or sends an invalid response.
 */
export async function snapshotOf(subject: Subject, settings: HubSettings): Promise<Snapshot> {
  try {
    const commit = isCommit(subject.revision) ? subject.revision : await commitOf(subject, settings);
    return { commit, files: await filesAt(commit, subject, settings) };
  } catch (cause) {
    if (cause instanceof PeftError) throw cause;
    throw oddAnswer(subject, settings, reasonOf(cause), cause);
  }
}

async function commitOf(subject: Subject, settings: HubSettings): Promise<string> {
  const { repo: name, type, revision } = subject;
  const { modelInfo, datasetInfo } = await import('@huggingface/hub');
  const params = { name, revision, hubUrl: settings.endpoint, fetch: boundedFetch(subject, settings) };
  const { sha } =
    type === 'model'
      ? await modelInfo({ ...params, additionalFields: ['sha'] })
      : await datasetInfo({ ...params, additionalFields: ['sha'] });
  if (isCommit(sha)) return sha;
  throw oddAnswer(subject, settings, `expected a commit for '${revision}', got ${shown(sha)}`);
}

async function filesAt(commit: string, subject: Subject, settings: HubSettings): Promise<ListedFile[]> {
  const { repo: name, type } = subject;
  const { listFiles } = await import('@huggingface/hub');
  const ask = boundedFetch(subject, settings);
  const files: ListedFile[] = [];
  let [pages, count, countBefore] = [0, 0, -1];
  const entries = listFiles({
    repo: { type, name },
    recursive: true,
    revision: commit,
    hubUrl: settings.endpoint,
    fetch(input, init) {
      if (count === countBefore) throw oddAnswer(subject, settings, 'its list continues after a page without files');
      if (++pages > MAX_PAGES) throw oddAnswer(subject, settings, `at most ${MAX_PAGES} pages of files are read`);
      countBefore = count;
      return ask(input, init);
    },
  });
  for await (const entry of entries) {
    if (++count > MAX_FILES) throw oddAnswer(subject, settings, `at most ${MAX_FILES} files are read`);
    if (entry.type !== 'file') continue;
    const file = { path: entry.path, size: entry.lfs?.size ?? entry.size, hash: entry.lfs?.oid ?? entry.oid ?? '' };
    if (!isPlain(file)) throw oddAnswer(subject, settings, `it lists an invalid file ${shown(file)}`);
    files.push(file);
  }
  return files;
}

/** Returns a `fetch` with a limit on the response's size: JSON responses are read as a whole. */
function boundedFetch(subject: Subject, settings: HubSettings): typeof fetch {
  const ask = hubFetch(settings, subject);
  return async (input, init) => {
    const response = await ask(input, init);
    let bytes = 0;
    const bound = new TransformStream<Uint8Array, Uint8Array>({
      transform(piece, controller) {
        bytes += piece.length;
        if (bytes <= MAX_ANSWER_BYTES) controller.enqueue(piece);
        else controller.error(oddAnswer(subject, settings, `more than ${MAX_ANSWER_BYTES} bytes in one answer`));
      },
    });
    return new Response(response.body?.pipeThrough(bound) ?? null, response);
  };
}

/** Whether a file has a valid size and hash, and a path that stays below its folder on every system. */
function isPlain({ path, size, hash }: ListedFile): boolean {
  if (typeof path !== 'string' || path.length > 1000 || /^[a-z]:|\\|\p{Cc}|\p{Cs}/iu.test(path)) return false;
  if (path.split('/').some((part) => part === '' || part === '.' || part === '..')) return false;
  return Number.isSafeInteger(size) && size >= 0 && HASH.test(hash);
}

function oddAnswer(subject: Subject, { endpoint }: HubSettings, what: string, cause?: unknown): HubError {
  const path = labelOf(subject);
  return new HubError(`${path}: ${endpoint} does not answer like a hub: ${what}; check HF_ENDPOINT`, { path, cause });
}
