import { PeftError } from '@peftjs/core';
import { CheckpointError, ConfigError, UnsupportedError } from '@peftjs/core/method';
import { reasonOf, shown } from '../json.js';
import { hubSettings, type HubSettings } from './options.js';
import { HubError, hubFetch, isHubId, subjectOf, type Subject } from './request.js';

/** How a folder is pushed to the hub. */
export interface PushOptions {
  /** Whether a repository that is made for it is seen by its owners alone. Default false. One that is there stays as it is. */
  readonly private?: boolean;
  /** What the commit says. Default 'Upload with peftjs'. */
  readonly commitMessage?: string;
  /** The branch that it goes to. Default 'main'. */
  readonly revision?: string;
  /** The address of the hub. Default: HF_ENDPOINT, else https://huggingface.co. */
  readonly hubUrl?: string;
}

/** What was pushed. */
export interface Pushed {
  /** Where people see it. */
  readonly url: string;
  readonly commit: string;
}

/** The files by which a folder is known to be a whole adapter or model. */
const MARKERS = ['adapter_config.json', 'config.json'];

/**
 * Puts a folder on the Hugging Face hub as it is, in one commit: an adapter (`savePretrained`), a merged model (`saveMerged`) or a
 * folder for transformers.js (`saveOnnx`). The repository is made where there is none. Files whose names begin with a dot stay here.
 *
 * The token comes from the environment (HF_TOKEN), goes to the hub alone and is never shown; so a page cannot push.
 *
 * @param repo `organisation/name`
 * @throws ConfigError for an impossible option, and where there is no token; nothing has been sent then.
 * @throws CheckpointError for a folder that is none of these, or cannot be read.
 * @throws HubError when the hub refuses, or cannot be reached.
 * @example
 * await savePretrained(peft, 'my-adapter');
 * const { url } = await pushToHub('my-adapter', 'me/my-adapter', { private: true });
 */
export async function pushToHub(folder: string, repo: string, options: PushOptions = {}): Promise<Pushed> {
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
    // The hub's newer protocol, xet, needs a server of its own that tests here do not have; the hub takes both.
    const made = await commit({ ...asking, title, branch: settings.revision, operations, useXet: false });
    return { url: `${settings.endpoint}/${repo}`, commit: made?.commit.oid ?? '' };
  } catch (cause) {
    if (cause instanceof PeftError) throw cause;
    throw new HubError(`${repo}: the hub at ${settings.endpoint} took no files: ${reasonOf(cause)}`, {
      path: repo,
      cause,
    });
  }
}

/** The hub's answer to who makes a repository a second time. */
const ALREADY_THERE = 409;

/**
 * Checks what a push needs before anything is computed or sent.
 * @throws ConfigError for an impossible option, and where there is no token.
 */
export function pushSettings(
  repo: string,
  { private: isPrivate = false, commitMessage: title = 'Upload with peftjs', revision, hubUrl }: PushOptions = {},
): { readonly title: string; readonly settings: HubSettings & { readonly token: string }; readonly subject: Subject } {
  if (!isHubId(repo)) {
    throw new ConfigError(`a push goes to a repository of the hub, organisation/name, got ${shown(repo)}`, 'repo');
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
  if (localFilesOnly)
    throw new ConfigError('HF_HUB_OFFLINE forbids to ask the hub: unset it to push', 'HF_HUB_OFFLINE');
  if (token === undefined) {
    throw new ConfigError(
      `a push to ${repo} needs a token that may write: set HF_TOKEN to one, from ${settings.endpoint}/settings/tokens`,
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
  /** Below the folder, with slashes. */
  readonly path: string;
  readonly content: URL;
}

/** The files of a folder, in order. @throws CheckpointError when it is none that anybody opens. */
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
      `${folder} holds neither an adapter nor a model: expected ${MARKERS.join(' or ')}; push what savePretrained, saveMerged or saveOnnx wrote`,
      folder,
    );
  }
  return paths.map((path) => ({ path, content: pathToFileURL(`${root}/${path}`) }));
}

async function fileSystem(): Promise<typeof import('node:fs/promises')> {
  try {
    return await import(/* @vite-ignore */ 'node:fs/promises');
  } catch (cause) {
    throw new UnsupportedError('there is no folder to push in a page: push it from Node', undefined, cause);
  }
}
