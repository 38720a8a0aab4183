import { PeftError } from '@peftjs/core';
import { CheckpointError, ConfigError, parseOptions, UnsupportedError } from '@peftjs/core/method';
import {
  ADAPTER_CONFIG,
  ADAPTER_WEIGHTS,
  assertArgument,
  aText,
  incompleteSave,
  nodeModule,
  UNFINISHED_FILE,
} from '@peftjs/core/model';
import * as v from 'valibot';
import { GGUF_ENDING } from '../gguf/format.js';
import { fileError, parseJson, reasonOf, shown } from '../json.js';
import { CONFIG_FILE } from '../transformers/config.js';
import { hubEntries, hubSettings, type HubSettings } from './options.js';
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
  private: v.optional(v.boolean(), false),
  commitMessage: v.optional(v.pipe(v.string(), v.regex(/\S/, 'a line of text')), 'Upload with peftjs'),
  revision: hubEntries.revision,
  hubUrl: hubEntries.hubUrl,
} satisfies Record<keyof PushOptions, unknown>;

/** The result of a push. */
export interface PushResult {
  /** The repository's page. */
  readonly url: string;
  /** The hash of the new commit. */
  readonly commit: string;
}

/** The configurations of an adapter and of a model, and the weights that each needs. */
const WEIGHTS = { [ADAPTER_CONFIG]: /^adapter_model\.safetensors$/, [CONFIG_FILE]: /\.(safetensors|onnx)$/ };

/**
 * Uploads a folder to the Hugging Face hub in one commit: an adapter (`savePretrained`), a merged model (`saveMerged`),
 * a folder for transformers.js (`saveOnnx`) or one of GGUF files. Creates the repository if needed. Skips files and
 * folders whose names start with a dot and temporary files of interrupted saves, and follows links to files.
 *
 * The token comes from the environment (HF_TOKEN), is sent only to the hub and is never shown. A web page therefore
 * cannot push.
 *
 * @param folder The path of the folder on the disk.
 * @param repo The repository, `organisation/name`.
 * @throws ConfigError for an invalid option or a missing token, before anything is sent.
 * @throws CheckpointError when the folder has neither an adapter nor a model with its weights, when a save into it was
 * interrupted, or when it cannot be read.
 * @throws UnsupportedError in a web page.
 * @throws HubError when the hub refuses or cannot be reached.
 * @example
 * await savePretrained(peft, 'my-adapter');
 * const { url } = await pushToHub('my-adapter', 'me/my-adapter', { private: true });
 */
export async function pushToHub(folder: string, repo: string, options: PushOptions = {}): Promise<PushResult> {
  assertArgument('folder', folder, aText);
  const { title, settings, subject } = pushSettings(repo, options);
  const files = await filesOf(folder);
  const { commit, createRepo, repoExists } = await import('@huggingface/hub');
  const asking = {
    repo: { type: 'model', name: repo } as const,
    hubUrl: settings.endpoint,
    accessToken: settings.token,
    fetch: hubFetch(settings, subject),
  };
  const visibility = options.private ? 'private' : 'public';
  try {
    await createRepo({ ...asking, visibility }).catch(async (error: unknown) => {
      const status = error instanceof HubError ? error.status : undefined;
      if (status === ALREADY_THERE) return;
      const mayBeThere = MAY_NOT_CREATE.includes(status ?? 0);
      if (!mayBeThere || !(await repoExists(asking).catch(() => false))) throw error;
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
/** Its statuses for a token that may not create repositories, but may be able to write to one that exists. */
const MAY_NOT_CREATE: readonly number[] = [401, 402, 403];

/**
 * Checks the options of a push before anything is computed or sent.
 * @throws ConfigError for an invalid option or a missing token.
 */
export function pushSettings(
  repo: string,
  options: PushOptions = {},
): { readonly title: string; readonly settings: HubSettings & { readonly token: string }; readonly subject: Subject } {
  const { commitMessage: title, revision, hubUrl } = parseOptions('pushToHub', entries, options);
  if (!isHubId(repo)) {
    throw new ConfigError(`expected a hub repository, organisation/name, got ${shown(repo)}`, 'repo');
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

type FileSystem = typeof import('node:fs/promises');

/** Returns the files of a folder, sorted. @throws CheckpointError unless it has a complete adapter or model. */
async function filesOf(folder: string): Promise<PushedFile[]> {
  const fs = nodeModule('node:fs/promises') as FileSystem | undefined;
  if (!fs) throw new UnsupportedError('a web page cannot push a folder: push it from Node');
  const { pathToFileURL } = nodeModule('node:url') as typeof import('node:url');
  const { resolve } = nodeModule('node:path') as typeof import('node:path');
  const root = resolve(folder); // the paths that readdir returns begin with it
  try {
    const paths = await pathsIn(root, fs);
    assertWeights(folder, paths);
    for (const path of paths.filter(isConfig)) {
      const file = `${root}/${path}`;
      const incomplete = incompleteSave(parseJson(await fs.readFile(file), file));
      if (incomplete !== undefined) throw fileError(file, incomplete);
    }
    return paths.map((path) => ({ path, content: pathToFileURL(`${root}/${path}`) }));
  } catch (cause) {
    if (cause instanceof PeftError) throw cause;
    throw new CheckpointError(`cannot read ${folder}: ${reasonOf(cause)}`, folder, cause);
  }
}

async function pathsIn(root: string, { readdir, stat }: FileSystem): Promise<string[]> {
  const paths: string[] = [];
  for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
    const path = `${entry.parentPath.slice(root.length)}/${entry.name}`.replaceAll('\\', '/').replace(/^\/+/, '');
    if (path.split('/').some((part) => part.startsWith('.')) || UNFINISHED_FILE.test(path)) continue;
    if (entry.isDirectory()) continue;
    if (entry.isFile() || (await stat(`${root}/${path}`)).isFile()) paths.push(path);
    else throw new CheckpointError(`${root}/${path} is not a file: remove it, or copy what it links to`, path);
  }
  return paths.sort();
}

function isConfig(path: string): boolean {
  return path.slice(path.lastIndexOf('/') + 1) in WEIGHTS;
}

/** @throws CheckpointError when a folder has no adapter and no model, or one without weights. */
function assertWeights(folder: string, paths: readonly string[]): void {
  const wanted = Object.entries(WEIGHTS).filter(([config]) => paths.includes(config));
  if (wanted.length === 0) {
    if (paths.some((path) => path.endsWith(GGUF_ENDING))) return;
    throw new CheckpointError(
      `${folder} has neither an adapter nor a model: expected ${Object.keys(WEIGHTS).join(', ')} or a ${GGUF_ENDING} file; push a folder of savePretrained, saveMerged, saveOnnx or saveGguf`,
      folder,
    );
  }
  for (const [config, weights] of wanted) {
    if (paths.some((path) => weights.test(path))) continue;
    const expected = config === ADAPTER_CONFIG ? ADAPTER_WEIGHTS : 'a .safetensors or .onnx file';
    throw new CheckpointError(`${folder} has ${config} but no weights: expected ${expected}; save it again`, folder);
  }
}
