import { ConfigError } from '@peftjs/core/method';
import { aFunction, assertArgument } from '@peftjs/core/model';
import * as v from 'valibot';

/**
 * Options of downloads from the Hugging Face hub, as in transformers.js. Names of several words also work in camel
 * case.
 */
export interface HubOptions {
  /** A branch, a tag or a commit. Default 'main'. */
  readonly revision?: string;
  /**
   * The folder of downloaded files. Default: the cache of Python's huggingface_hub (HF_HUB_CACHE, else
   * HUGGINGFACE_HUB_CACHE, else HF_HOME/hub, else XDG_CACHE_HOME/huggingface/hub), so both share downloads. A web page
   * uses its Cache API instead, or memory.
   */
  readonly cacheDir?: string;
  /** Another name of `cacheDir`. */
  readonly cache_dir?: string;
  /** Whether to use only cached files, without a request to the hub. Default: whether HF_HUB_OFFLINE is set. */
  readonly localFilesOnly?: boolean;
  /** Another name of `localFilesOnly`. */
  readonly local_files_only?: boolean;
  /** The hub's URL. Default: HF_ENDPOINT (not in a web page), else https://huggingface.co. */
  readonly hubUrl?: string;
  /** Called with the progress of each file. */
  readonly progressCallback?: ProgressCallback;
  /** Another name of `progressCallback`. */
  readonly progress_callback?: ProgressCallback;
}

/** The settings that result from the options and the environment. */
export interface HubSettings {
  /** The hub's URL, without a trailing slash. */
  readonly endpoint: string;
  /** The access token, sent only to the hub. */
  readonly token: string | undefined;
  /** A branch, a tag or a commit. */
  readonly revision: string;
  /** The folder of downloaded files; undefined for the default. */
  readonly cacheDir: string | undefined;
  /** Whether to use only cached files. */
  readonly localFilesOnly: boolean;
  /** Called with the progress of each file. */
  readonly progress: ProgressCallback;
}

/** Matches a path below a folder, without `..`, a drive, or characters with a meaning in URLs. */
const PLAIN_PATH = /^(?!\.{1,2}(?:\/|$))[\w.+-]+(?:\/(?!\.{1,2}(?:\/|$))[\w.+-]+)*$/;

/** A schema for a plain path below a folder, or one of other texts. */
export function aPlainPath(what: string, ...others: readonly string[]) {
  const isPlain = (path: unknown): boolean =>
    typeof path === 'string' && (others.includes(path) || (path.length <= 250 && PLAIN_PATH.test(path)));
  return v.custom<string>(isPlain, what);
}

const aFolder = v.optional(
  v.custom<string>((path) => typeof path === 'string' && path !== '' && !path.includes('\0'), 'a folder'),
);
const aSwitch = v.optional(v.custom<boolean>((value) => typeof value === 'boolean', 'true or false'));

/** The fields of `HubOptions`. */
export const hubEntries = {
  revision: v.optional(aPlainPath('a branch, a tag or a commit')),
  cacheDir: aFolder,
  cache_dir: aFolder,
  localFilesOnly: aSwitch,
  local_files_only: aSwitch,
  hubUrl: v.optional(v.string()),
  progressCallback: v.optional(aFunction),
  progress_callback: v.optional(aFunction),
} satisfies Record<keyof HubOptions, unknown>;

/** Checks options and environment. @throws ConfigError naming the invalid option or environment variable. */
export function hubSettings(options: HubOptions): HubSettings {
  assertArgument('options', options, v.object(hubEntries));
  const environment = nodeEnvironment();
  const endpoint = endpointOf(options.hubUrl, environment);
  return {
    endpoint,
    token: tokenOf(environment, endpoint),
    revision: options.revision ?? 'main',
    cacheDir: options.cacheDir ?? options.cache_dir,
    localFilesOnly: options.localFilesOnly ?? options.local_files_only ?? isKeptOffline(environment),
    progress: options.progressCallback ?? options.progress_callback ?? (() => undefined),
  };
}

const HUB = 'https://huggingface.co';

/** Matches host names of this machine. */
const LOOPBACK = /^(localhost|127(\.\d+){3}|\[::1\])$/;

/** Environment variables by name. */
type Environment = Readonly<Record<string, string | undefined>>;

/** Whether this is a Node process, not a web page with a polyfill. */
export function isNode(): boolean {
  const { process } = globalThis as { process?: { versions?: { node?: string } } };
  return process?.versions?.node !== undefined && !('document' in globalThis);
}

/** Returns the environment variables of a Node process. A web page has none, and so never a token. */
function nodeEnvironment(): Environment {
  return isNode() ? globalThis.process.env : {};
}

/**
 * Returns the hub's URL, without a trailing slash: the option, else HF_ENDPOINT.
 * @throws ConfigError for an invalid URL.
 */
function endpointOf(given: string | undefined, environment: Environment): string {
  const endpoint = given ?? (environment.HF_ENDPOINT?.trim() || HUB);
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  if (url && /^https?:$/.test(url.protocol) && url.username === '' && url.password === '' && url.search === '') {
    return url.href.replace(/(?<!\/)\/+$/, '');
  }
  const name = given === undefined ? 'HF_ENDPOINT' : 'hubUrl';
  throw new ConfigError(`${name} must be a URL like ${HUB}, without a password`, name);
}

/**
 * Returns the token in HF_TOKEN, else in HF_ACCESS_TOKEN.
 * @param endpoint The URL that it would be sent to.
 * @throws ConfigError, without the value, when it is not a token or would be sent unencrypted.
 */
export function tokenOf(environment: Environment, endpoint: string): string | undefined {
  const name = environment.HF_TOKEN?.trim() ? 'HF_TOKEN' : 'HF_ACCESS_TOKEN';
  const token = environment[name]?.trim();
  if (!token) return undefined;
  const { protocol, hostname } = new URL(endpoint);
  if (protocol !== 'https:' && !LOOPBACK.test(hostname)) {
    throw new ConfigError(`${name} would go to ${endpoint} unencrypted: use an https URL, or unset ${name}`, name);
  }
  if (/^[\x21-\x7e]+$/.test(token)) return token; // what a header may hold: other hubs and OAuth have other tokens
  throw new ConfigError(`${name} must be a hub token, one line of ASCII without blanks; its value is not shown`, name);
}

/** Whether HF_HUB_OFFLINE forbids requests to the hub. */
function isKeptOffline({ HF_HUB_OFFLINE = '' }: Environment): boolean {
  return ['1', 'ON', 'YES', 'TRUE'].includes(HF_HUB_OFFLINE.toUpperCase());
}

/** The progress of a file. */
export interface FileProgress {
  /** The number of bytes loaded. */
  readonly loaded: number;
  /** The size in bytes. */
  readonly total: number;
}

/**
 * An event of loading, as in transformers.js. `name` is the repository, `file` the path of the file in it, and
 * `progress` a percentage from 0 to 100.
 */
export type ProgressInfo =
  | { readonly status: 'initiate' | 'download' | 'done'; readonly name: string; readonly file: string }
  | ({
      readonly status: 'progress';
      readonly name: string;
      readonly file: string;
      readonly progress: number;
    } & FileProgress)
  | ({
      readonly status: 'progress_total';
      readonly name: string;
      readonly progress: number;
      /** The progress of every file that will be needed. */
      readonly files: Readonly<Record<string, FileProgress>>;
    } & FileProgress)
  | { readonly status: 'ready'; readonly task: string; readonly model: string };

/**
 * Called for each event: `initiate`, `download` (unless the file is cached), `progress`, `done`; at the end `ready`.
 */
export type ProgressCallback = (info: ProgressInfo) => void;

/** Reports the events of one file. */
interface FileReporter {
  /** Reports that the file has reached a state. */
  is(status: 'initiate' | 'download' | 'done'): void;
  /** Reports the number of bytes loaded so far. */
  loaded(bytes: number): void;
}

/** The number of progress steps reported per file. */
const STEPS = 1000;

/** Creates reporters of files. `expected` has the sizes of the files that will be needed, as far as known. */
export function progressReporter(
  name: string,
  report: ProgressCallback,
  expected: ReadonlyMap<string, number> = new Map(),
): (file: string, total: number) => FileReporter {
  const files = new Map<string, FileProgress>([...expected].map(([file, total]) => [file, { loaded: 0, total }]));
  return (file, total) => {
    let step = -1;
    return {
      is(status) {
        report({ status, name, file });
      },
      loaded(loaded) {
        const reached = Math.floor(STEPS * share(loaded, total));
        if (reached === step) return;
        step = reached;
        files.set(file, { loaded, total });
        report({ status: 'progress_total', name, ...totals(files) });
        report({ status: 'progress', name, file, progress: 100 * share(loaded, total), loaded, total });
      },
    };
  };
}

function totals(files: ReadonlyMap<string, FileProgress>) {
  const sum = (key: keyof FileProgress): number => [...files.values()].reduce((all, file) => all + file[key], 0);
  const [loaded, total] = [sum('loaded'), sum('total')];
  return { progress: 100 * share(loaded, total), loaded, total, files: Object.fromEntries(files) };
}

/** Returns the loaded share. An empty file counts as loaded. */
function share(loaded: number, total: number): number {
  return total === 0 ? 1 : loaded / total;
}
