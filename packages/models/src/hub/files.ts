import { warnOnce } from '@peftjs/core/method';
import { firstNames, freeMemory } from '@peftjs/core/model';
import type { ByteSource } from '@peftjs/safetensors';
import { checkMemory } from '../folder.js';
import { complete, type HubCache } from './download.js';
import { diskCache } from './disk-cache.js';
import { hubSettings, isNode, progressReporter, type HubOptions, type HubSettings } from './options.js';
import { HubError, labelOf, subjectOf, TRANSIENT, type RepoType, type Subject } from './request.js';
import { pageCache } from './page-cache.js';
import { isCommit, snapshotOf, type ListedFile, type RepoFile } from './snapshot.js';

/** Options of `hubFiles`. */
export interface HubFilesOptions extends HubOptions {
  /** The repository, `organisation/name`. */
  readonly repo: string;
  /** The type of repository. Default 'model'. */
  readonly type?: RepoType;
}

/** The files of a repository at one commit. A file is downloaded on first use and then cached. */
export interface HubFiles {
  /** The repository, `organisation/name`. */
  readonly repo: string;
  /** The type of the repository. */
  readonly type: RepoType;
  /** The commit of the revision. Pass it as `revision` to get the same bytes again. */
  readonly commit: string;
  /** All files of the commit; with `localFilesOnly`, only the cached ones. */
  readonly files: readonly RepoFile[];
  /**
   * Returns the bytes of a file.
   * @throws HubError when there is no such file, or it cannot be downloaded.
   * @throws CheckpointError when it does not fit into the free memory.
   */
  read(path: string): Promise<Uint8Array>;
  /** Opens a file to read in pieces; the caller closes it. @throws HubError like `read`. */
  open(path: string): Promise<ByteSource>;
}

/**
 * Opens the files of a model or a data set on the Hugging Face hub. Reads the environment variables HF_TOKEN, else
 * HF_ACCESS_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE, and for the cache HF_HUB_CACHE, else HUGGINGFACE_HUB_CACHE, else
 * HF_HOME, else XDG_CACHE_HOME.
 *
 * @throws ConfigError for an invalid option or environment variable.
 * @throws HubError when the hub refuses, or cannot be reached and nothing is cached.
 * @example
 * const glue = await hubFiles({ repo: 'nyu-mll/glue', type: 'dataset' });
 * const rows = await glue.read('cola/train-00000-of-00001.parquet');
 */
export async function hubFiles({ repo, type = 'model', ...options }: HubFilesOptions): Promise<HubFiles> {
  return (await openRepository(repo, type, options)).files();
}

/** A repository whose files are listed. */
export interface Repository {
  /** The files it has. */
  readonly listed: readonly RepoFile[];
  /** Whether these are only the files in the cache, which may lack some. */
  readonly isFromCache: boolean;
  /** Opens its files. */
  files(use?: FileUse): HubFiles;
  /** Moves the branch or tag in the cache to this commit. */
  settle(): Promise<void>;
}

/** How the files of a repository are used. */
interface FileUse {
  /** The files whose size is the total of the progress. Default: none. */
  readonly expected?: readonly RepoFile[];
  /**
   * Whether a branch that the cache knows stays at its commit there until `settle`: an interrupted update must not hide
   * a complete download. Default: it moves with the first file.
   */
  readonly waits?: boolean;
}

/** Lists a repository's files, from the hub or, if that is not reachable, from the cache. */
export async function openRepository(repo: string, type: RepoType, options: HubOptions): Promise<Repository> {
  const settings = hubSettings(options);
  const subject = subjectOf(repo, type, settings.revision);
  const cache = isNode()
    ? await diskCache(repo, type, settings.cacheDir)
    : await pageCache(repo, type, settings.endpoint);
  const holding = settings.localFilesOnly ? await kept(subject, cache) : await listed(subject, settings, cache);
  if (!holding) throw notKept(subject, cache, options);
  const opened = { subject, settings, cache, ...holding };
  return {
    listed: holding.files,
    isFromCache: holding.isFromCache ?? false,
    files: (use = {}) => filesOf(opened, use),
    settle: () => remember(opened),
  };
}

/** The files of a repository at a commit. Files listed from the cache have no hash. */
interface Holding {
  readonly commit: string;
  readonly files: readonly (ListedFile | RepoFile)[];
  /** Default false. */
  readonly isFromCache?: boolean;
}

async function listed(subject: Subject, settings: HubSettings, cache: HubCache): Promise<Holding> {
  try {
    return await snapshotOf(subject, settings);
  } catch (error) {
    const isBusy = error instanceof HubError && TRANSIENT.includes(error.status ?? 0);
    if (!(error instanceof HubError && (error.isOffline || isBusy))) throw error;
    const holding = await kept(subject, cache).catch(() => undefined);
    if (!holding) throw error;
    const why = isBusy ? 'is busy' : 'cannot be reached';
    warnOnce(`${subject.repo}: the hub ${why}; using the earlier download in ${cache.label}`);
    return holding;
  }
}

/** Lists the files in the cache; undefined if it does not have the revision. */
async function kept({ revision }: Subject, cache: HubCache): Promise<Holding | undefined> {
  const commit = isCommit(revision) ? revision : await cache.commitOf(revision);
  const files = commit === undefined ? [] : await cache.filesAt(commit);
  return commit !== undefined && files.length > 0 ? { commit, files, isFromCache: true } : undefined;
}

function notKept({ repo, revision }: Subject, cache: HubCache, options: HubOptions): HubError {
  const isAsked = (options.localFilesOnly ?? options.local_files_only) !== undefined;
  const why = isAsked ? 'localFilesOnly is true' : 'HF_HUB_OFFLINE is set';
  return new HubError(
    `${repo}: revision '${revision}' is not in ${cache.label}, and ${why}: download it once without that`,
    { path: repo },
  );
}

interface Opened extends Holding {
  readonly subject: Subject;
  readonly settings: HubSettings;
  readonly cache: HubCache;
}

function filesOf(opened: Opened, { expected = [], waits = false }: FileUse): HubFiles {
  const { subject, settings, cache, commit, files } = opened;
  const sizes = new Map(expected.map(({ path, size }) => [path, size]));
  const report = progressReporter(subject.repo, settings.progress, sizes);
  const byPath = new Map(files.map((file) => [file.path, file]));

  async function open(path: string): Promise<ByteSource> {
    const file = byPath.get(path);
    if (!file) throw noSuchFile(path, opened);
    const reporter = report(path, file.size);
    reporter.is('initiate');
    let source = await whole(file, opened);
    const isDownloaded = !source && 'hash' in file;
    if (isDownloaded) {
      reporter.is('download');
      await cache.keep(commit, file, (part) => complete(part, { subject, commit, file }, settings, reporter.loaded));
    }
    if (!waits || !(await cache.commitOf(subject.revision))) await remember(opened, isDownloaded);
    source ??= await cache.open(commit, path);
    if (!source) throw noSuchFile(path, opened);
    reporter.loaded(file.size);
    reporter.is('done');
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
      checkMemory('the file', size, freeMemory() ?? Infinity, labelOf({ ...subject, file: path }));
      const source = await open(path);
      try {
        return await source.read(0, source.size);
      } finally {
        await source.close?.();
      }
    },
  };
}

/** Stores the commit of a branch or tag. Without a download, the cache may be one that cannot be written to. */
async function remember({ subject: { revision }, cache, commit }: Opened, isDownloaded = false): Promise<void> {
  if (isCommit(revision) || (await cache.commitOf(revision)) === commit) return;
  await cache.remember(revision, commit).catch((error: unknown) => {
    if (isDownloaded) throw error;
  });
}

/** Opens a cached file if it is complete; undefined if it is truncated or absent. */
async function whole({ path, size }: RepoFile, { cache, commit }: Opened): Promise<ByteSource | undefined> {
  const source = await cache.open(commit, path);
  if (source === undefined || source.size === size) return source;
  await source.close?.();
  return undefined;
}

function noSuchFile(path: string, { subject, commit, files, isFromCache = false }: Opened): HubError {
  const label = labelOf({ ...subject, file: path });
  const known = firstNames(files.map((file) => file.path));
  return new HubError(
    `${label}: no such file${isFromCache ? ' in the cache' : ''} at ${commit.slice(0, 12)}; its files are ${known}`,
    { path: label },
  );
}
