import { ConfigError } from '@peftjs/core';
import { shown } from '../json.js';
import { endpointOf, isKeptOffline, nodeEnvironment, tokenOf } from './environment.js';
import type { ProgressCallback } from './progress.js';

/** How files come from the Hugging Face hub: the options of transformers.js, those of several words in camel case as well. */
export interface HubOptions {
  /** A branch, a tag or a commit. Default 'main'. */
  readonly revision?: string;
  /**
   * Where files are kept. Default: where Python's huggingface_hub keeps them (HF_HUB_CACHE, else HF_HOME/hub), each finding what
   * the other has downloaded. A page has its Cache API instead, or memory.
   */
  readonly cacheDir?: string;
  readonly cache_dir?: string;
  /** Only what is here already: the hub is not asked. Default: whether HF_HUB_OFFLINE is set. */
  readonly localFilesOnly?: boolean;
  readonly local_files_only?: boolean;
  /** The address of the hub. Default: HF_ENDPOINT, of which a page knows nothing, else https://huggingface.co. */
  readonly hubUrl?: string;
  /** Told of each file. */
  readonly progressCallback?: ProgressCallback;
  readonly progress_callback?: ProgressCallback;
}

/** What the options and the environment come to. */
export interface HubSettings {
  /** The hub's address, without a slash at its end. */
  readonly endpoint: string;
  /** Sent to the hub and to nobody else. */
  readonly token: string | undefined;
  readonly revision: string;
  readonly cacheDir: string | undefined;
  readonly localFilesOnly: boolean;
  readonly progress: ProgressCallback;
}

/** A path below a folder: no way up, no drive, nothing that an address reads otherwise. */
const PLAIN_PATH = /^(?!\.{1,2}(?:\/|$))[\w.+-]+(?:\/(?!\.{1,2}(?:\/|$))[\w.+-]+)*$/;

/** @throws ConfigError naming the option, or the variable of the environment, that cannot be. */
export function hubSettings(options: HubOptions): HubSettings {
  const environment = nodeEnvironment();
  const { revision = 'main' } = options;
  const cacheDir = options.cacheDir ?? options.cache_dir;
  const localFilesOnly = options.localFilesOnly ?? options.local_files_only ?? isKeptOffline(environment);
  const progress = options.progressCallback ?? options.progress_callback ?? (() => undefined);
  checkPlainPath('revision', revision, 'a branch, a tag or a commit');
  check(cacheDir === undefined || isText(cacheDir), 'cacheDir', cacheDir, 'a folder');
  check(typeof localFilesOnly === 'boolean', 'localFilesOnly', localFilesOnly, 'true or false');
  check(typeof progress === 'function', 'progressCallback', progress, 'a function');
  const endpoint = endpointOf(options.hubUrl, environment);
  return {
    endpoint,
    token: tokenOf(environment, endpoint),
    revision,
    cacheDir,
    localFilesOnly,
    progress,
  };
}

/** @throws ConfigError unless the option's value stays below the folder that it is taken from. */
export function checkPlainPath(option: string, value: unknown, what: string): void {
  check(isText(value) && value.length <= 250 && PLAIN_PATH.test(value), option, value, what);
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && !value.includes('\0');
}

function check(isFit: boolean, option: string, value: unknown, what: string): void {
  if (!isFit) throw new ConfigError(`option '${option}' is ${shown(value)}; expected ${what}`, option);
}
