import { warnOnce } from '@peftjs/core/method';
import type { ByteSource } from '@peftjs/safetensors';
import { checkMemory, freeMemory } from '../folder.js';
import { complete, type HubCache } from './download.js';
import { diskCache } from './disk-cache.js';
import { hubSettings, isNode, progressReporter, type HubOptions, type HubSettings } from './options.js';
import { HubError, labelOf, subjectOf, type RepoType, type Subject } from './request.js';
import { pageCache } from './page-cache.js';
import { isCommit, snapshotOf, type ListedFile, type RepoFile } from './snapshot.js';

/** Which repository of the hub, and how its files come. */
export interface HubFilesOptions extends HubOptions {
  /** `organisation/name`. */
  readonly repo: string;
  /** Default 'model'. */
  readonly type?: RepoType;
}

/** The files of a repository as it was at one commit. A file is downloaded when it is first asked for, and then kept. */
export interface HubFiles {
  readonly repo: string;
  readonly type: RepoType;
  /** What the revision stood at: name it as `revision` and you get the same bytes again. */
  readonly commit: string;
  /** All of them; with localFilesOnly those that are here. */
  readonly files: readonly RepoFile[];
  /** The bytes of a file. @throws HubError when there is no such file, or it cannot be had. */
  read(path: string): Promise<Uint8Array>;
  /** A file to be read in pieces, which the caller closes. @throws HubError as `read` does. */
  open(path: string): Promise<ByteSource>;
}

/**
 * The files of a model or a data set of the Hugging Face hub. Environment: HF_TOKEN, HF_ENDPOINT, HF_HOME, HF_HUB_CACHE,
 * HF_HUB_OFFLINE.
 *
 * @throws ConfigError for an option, or a variable, that cannot be.
 * @throws HubError when the hub refuses, or cannot be reached and nothing is here.
 * @example
 * const glue = await hubFiles({ repo: 'nyu-mll/glue', type: 'dataset' });
 * const rows = await glue.read('cola/train-00000-of-00001.parquet');
 */
export async function hubFiles({ repo, type = 'model', ...options }: HubFilesOptions): Promise<HubFiles> {
  return (await openRepository(repo, type, options)).files();
}

/** A repository of which it is known what it holds. */
export interface Repository {
  readonly label: string;
  /** What it holds. */
  readonly listed: readonly RepoFile[];
  /** Its files; `expected` are those that will be needed, for the sum of the progress. */
  files(expected?: readonly RepoFile[]): HubFiles;
}

/** Finds out what a repository holds: from the hub, or without it from the cache. */
export async function openRepository(repo: string, type: RepoType, options: HubOptions): Promise<Repository> {
  const settings = hubSettings(options);
  const subject = subjectOf(repo, type, settings.revision);
  const cache = isNode()
    ? await diskCache(repo, type, settings.cacheDir)
    : await pageCache(repo, type, settings.endpoint);
  const holding = settings.localFilesOnly ? await kept(subject, cache) : await listed(subject, settings, cache);
  return {
    label: labelOf(subject),
    listed: holding.files,
    files: (expected = []) => filesOf({ subject, settings, cache, ...holding }, expected),
  };
}

/** What a repository holds at a commit; what the hub did not list has no hash, but is here. */
interface Holding {
  readonly commit: string;
  readonly files: readonly (ListedFile | RepoFile)[];
}

async function listed(subject: Subject, settings: HubSettings, cache: HubCache): Promise<Holding> {
  try {
    return await snapshotOf(subject, settings);
  } catch (error) {
    if (!(error instanceof HubError && error.isOffline)) throw error;
    const holding = await kept(subject, cache).catch(() => {
      throw error;
    });
    warnOnce(`${subject.repo}: the hub cannot be reached; taken from ${cache.label} as it was downloaded before`);
    return holding;
  }
}

async function kept(subject: Subject, cache: HubCache): Promise<Holding> {
  const { repo, revision } = subject;
  const commit = isCommit(revision) ? revision : await cache.commitOf(revision);
  const files = commit === undefined ? [] : await cache.filesAt(commit);
  if (commit !== undefined && files.length > 0) return { commit, files };
  throw new HubError(
    `${repo}: nothing of revision '${revision}' is in ${cache.label}: download it once without localFilesOnly`,
    { path: repo },
  );
}

interface Opened extends Holding {
  readonly subject: Subject;
  readonly settings: HubSettings;
  readonly cache: HubCache;
}

function filesOf(opened: Opened, expected: readonly RepoFile[]): HubFiles {
  const { subject, settings, cache, commit, files } = opened;
  const sizes = new Map(expected.map(({ path, size }) => [path, size]));
  const report = progressReporter(subject.repo, settings.progress, sizes);
  const byPath = new Map(files.map((file) => [file.path, file]));

  async function open(path: string): Promise<ByteSource> {
    const file = byPath.get(path);
    if (!file) throw noSuchFile(path, opened);
    const { initiate, download, loaded, done } = report(path, file.size);
    initiate();
    let source = await whole(file, opened);
    if (!source && 'hash' in file) {
      download();
      await cache.keep(commit, file, (part) => complete(part, { subject, commit, file }, settings, loaded));
      if (!isCommit(subject.revision)) await cache.remember(subject.revision, commit);
      source = await cache.open(commit, path);
    }
    if (!source) throw noSuchFile(path, opened);
    loaded(file.size);
    done();
    return source;
  }

  return {
    repo: subject.repo,
    type: subject.type,
    commit,
    files: files.map(({ path, size }) => ({ path, size })),
    open,
    async read(path) {
      const size = byPath.get(path)?.size ?? 0;
      checkMemory('the file', size, (await freeMemory()) ?? Infinity, labelOf({ ...subject, file: path }));
      const source = await open(path);
      try {
        return await source.read(0, source.size);
      } finally {
        await source.close?.();
      }
    },
  };
}

/** A file that is here in full; of one that lost its end, nothing. */
async function whole({ path, size }: RepoFile, { cache, commit }: Opened): Promise<ByteSource | undefined> {
  const source = await cache.open(commit, path);
  if (source === undefined || source.size === size) return source;
  await source.close?.();
  return undefined;
}

function noSuchFile(path: string, { subject, commit, files }: Opened): HubError {
  const label = labelOf({ ...subject, file: path });
  const known = files.slice(0, 8).map((file) => file.path);
  return new HubError(
    `${label}: there is no such file at ${commit.slice(0, 12)}; of ${files.length} files there are ${known.join(', ')}${files.length > 8 ? ', ..' : ''}`,
    { path: label },
  );
}
