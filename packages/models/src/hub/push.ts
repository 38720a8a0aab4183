import { PeftError } from '@peftjs/core';
import {
  anything,
  assertArgument,
  aText,
  CheckpointError,
  ConfigError,
  parseOptions,
  UnsupportedError,
} from '@peftjs/core/method';
import { reasonOf, shown } from '../json.js';
import { hubSettings, type HubSettings } from './options.js';
import { HubError, hubFetch, isHubId, subjectOf, type Subject } from './request.js';

/** Options of a push to the hub. */
export interface PushOptions {
  /** Whether a newly created repository is private. An existing one does not change. Default false. */
  readonly private?: boolean;
  /** The commit message. Default 'Upload with peftjs'. */
  readonly commitMessage?: string;
  /** The branch to push to. Default 'main'. */
  readonly revision?: string;
  /** The hub's URL. Default: HF_ENDPOINT, else https://huggingface.co. */
  readonly hubUrl?: string;
}

const entries = {
  private: anything,
  commitMessage: anything,
  revision: anything,
  hubUrl: anything,
} satisfies Record<keyof PushOptions, unknown>;

/** The result of a push. */
export interface PushResult {
  /** The repository's page. */
  readonly url: string;
  /** The hash of the new commit. */
  readonly commit: string;
}

/** The files that identify a complete adapter or model. */
const MARKERS = ['adapter_config.json', 'config.json'];

/**
 * Uploads a folder to the Hugging Face hub in one commit: an adapter (`savePretrained`), a merged model (`saveMerged`)
 * or a folder for transformers.js (`saveOnnx`). Creates the repository if needed. Skips files whose names start with a
 * dot.
 *
 * The token comes from the environment (HF_TOKEN), is sent only to the hub and is never shown. A web page therefore
 * cannot push.
 *
 * @param folder The path of the folder on the disk.
 * @param repo The repository, `organisation/name`.
 * @throws ConfigError for an invalid option or a missing token, before anything is sent.
 * @throws CheckpointError when the folder has neither an adapter nor a model, or cannot be read.
 * @throws HubError when the hub refuses or cannot be reached.
 * @example
 * await savePretrained(peft, 'my-adapter');
 * const { url } = await pushToHub('my-adapter', 'me/my-adapter', { private: true });
 */
export async function pushToHub(folder: string, repo: string, options: PushOptions = {}): Promise<PushResult> {
  assertArgument('folder', folder, aText);
  const { title, settings, subject } = pushSettings(repo, options);
  const files = await filesOf(folder);
  const { commit, createRepo } = await import('@huggingface/hub');
  const asking = {
    repo: { type: 'model', name: repo } as const,
    hubUrl: settings.endpoint,
    accessToken: settings.token,
    fetch: hubFetch(settings, subject),
  };
  const visibility = options.private ? 'private' : 'public';
  try {
    await createRepo({ ...asking, visibility }).catch((error: unknown) => {
      if (!(error instanceof HubError && error.status === ALREADY_THERE)) throw error;
    });
    const operations = files.map(({ path, content }) => ({ operation: 'addOrUpdate' as const, path, content }));
    // The hub accepts both protocols. The newer one, xet, needs a separate server, which the tests do not have.
    const made = await commit({ ...asking, title, branch: settings.revision, operations, useXet: false });
    return { url: `${settings.endpoint}/${repo}`, commit: made?.commit.oid ?? '' };
  } catch (cause) {
    if (cause instanceof PeftError) throw cause;
    throw new HubError(`${repo}: the hub at ${settings.endpoint} rejected the files: ${reasonOf(cause)}`, {
      path: repo,
      cause,
    });
  }
}

/** The hub's status for a repository that already exists. */
const ALREADY_THERE = 409;

/**
 * Checks the options of a push before anything is computed or sent.
 * @throws ConfigError for an invalid option or a missing token.
 */
export function pushSettings(
  repo: string,
  options: PushOptions = {},
): { readonly title: string; readonly settings: HubSettings & { readonly token: string }; readonly subject: Subject } {
  parseOptions('pushToHub', entries, options);
  const { private: isPrivate = false, commitMessage: title = 'Upload with peftjs', revision, hubUrl } = options;
  if (!isHubId(repo)) {
    throw new ConfigError(`expected a hub repository, organisation/name, got ${shown(repo)}`, 'repo');
  }
  if (typeof isPrivate !== 'boolean') {
    throw new ConfigError(`option 'private' is ${shown(isPrivate)}; expected true or false`, 'private');
  }
  if (typeof title !== 'string' || title.trim() === '') {
    throw new ConfigError(`option 'commitMessage' is ${shown(title)}; expected a line of text`, 'commitMessage');
  }
  const settings = hubSettings({
    ...(revision !== undefined && { revision }),
    ...(hubUrl !== undefined && { hubUrl }),
  });
  const { token, localFilesOnly } = settings;
  if (localFilesOnly) throw new ConfigError('HF_HUB_OFFLINE is set: unset it to push', 'HF_HUB_OFFLINE');
  if (token === undefined) {
    throw new ConfigError(
      `a push to ${repo} needs a token that can write: set HF_TOKEN to one from ${settings.endpoint}/settings/tokens`,
      'HF_TOKEN',
    );
  }
  return {
    title,
    settings: { ...settings, token },
    subject: { ...subjectOf(repo, 'model', settings.revision), isWritten: true },
  };
}

interface PushedFile {
  /** The path below the folder, with slashes. */
  readonly path: string;
  readonly content: URL;
}

/** Returns the files of a folder, sorted. @throws CheckpointError when it has neither an adapter nor a model. */
async function filesOf(folder: string): Promise<PushedFile[]> {
  const [{ readdir }, { pathToFileURL }] = await Promise.all([fileSystem(), import(/* @vite-ignore */ 'node:url')]);
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch((cause: unknown) => {
    throw new CheckpointError(`cannot read ${folder}: ${reasonOf(cause)}`, folder, cause);
  });
  const root = folder.replace(/[/\\]+$/, '');
  const paths = entries
    .filter((entry) => entry.isFile())
    .map((entry) => `${entry.parentPath.slice(root.length)}/${entry.name}`.replaceAll('\\', '/').replace(/^\/+/, ''))
    .filter((path) => !path.split('/').some((part) => part.startsWith('.')))
    .sort();
  if (!MARKERS.some((marker) => paths.includes(marker))) {
    throw new CheckpointError(
      `${folder} has neither an adapter nor a model: expected ${MARKERS.join(' or ')}; push a folder of savePretrained, saveMerged or saveOnnx`,
      folder,
    );
  }
  return paths.map((path) => ({ path, content: pathToFileURL(`${root}/${path}`) }));
}

async function fileSystem(): Promise<typeof import('node:fs/promises')> {
  try {
    return await import(/* @vite-ignore */ 'node:fs/promises');
  } catch (cause) {
    throw new UnsupportedError('a web page cannot push a folder: push it from Node', undefined, cause);
  }
}
