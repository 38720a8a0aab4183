import { ConfigError } from '@peftjs/core/method';
import { shown } from '../json.js';

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

const HUB = 'https://huggingface.co';

/** Addresses of this very machine. */
const LOOPBACK = /^(localhost|127(\.\d+){3}|\[::1\])$/;

/** Variables by name. */
type Environment = Readonly<Record<string, string | undefined>>;

/** Whether this is a Node process, and no page that has been given something alike. */
export function isNode(): boolean {
  const { process } = globalThis as { process?: { versions?: { node?: string } } };
  return process?.versions?.node !== undefined && !('document' in globalThis);
}

/** The variables of a Node process. A page has none, and so never a token. */
function nodeEnvironment(): Environment {
  return isNode() ? globalThis.process.env : {};
}

/** The address of the hub, without a slash at its end: the one given, else HF_ENDPOINT. @throws ConfigError when that is none. */
function endpointOf(given: string | undefined, environment: Environment): string {
  const endpoint = given ?? (environment.HF_ENDPOINT?.trim() || HUB);
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  if (url && /^https?:$/.test(url.protocol) && url.username === '' && url.password === '' && url.search === '') {
    return url.href.replace(/\/+$/, '');
  }
  const name = given === undefined ? 'HF_ENDPOINT' : 'hubUrl';
  throw new ConfigError(`${name} must be an address like ${HUB}, without a password`, name);
}

/**
 * HF_TOKEN, else HF_ACCESS_TOKEN.
 * @param endpoint where it would be sent
 * @throws ConfigError, which does not show it, when it cannot be a token, or would go over a network unencrypted.
 */
export function tokenOf(environment: Environment, endpoint: string): string | undefined {
  const name = environment.HF_TOKEN?.trim() ? 'HF_TOKEN' : 'HF_ACCESS_TOKEN';
  const token = environment[name]?.trim();
  if (!token) return undefined;
  const { protocol, hostname } = new URL(endpoint);
  if (protocol !== 'https:' && !LOOPBACK.test(hostname)) {
    throw new ConfigError(`${name} would go to ${endpoint} unencrypted: give an https address, or unset ${name}`, name);
  }
  if (/^hf_\w+$/.test(token)) return token;
  throw new ConfigError(
    `${name} must be a token of the hub: 'hf_' and letters or digits; its value is not shown`,
    name,
  );
}

/** Whether HF_HUB_OFFLINE forbids to ask the hub. */
function isKeptOffline({ HF_HUB_OFFLINE = '' }: Environment): boolean {
  return ['1', 'ON', 'YES', 'TRUE'].includes(HF_HUB_OFFLINE.toUpperCase());
}

/** How much of a file is here, in bytes. */
export interface FileProgress {
  readonly loaded: number;
  readonly total: number;
}

/** How loading goes, in the events of transformers.js. `name` is the repository, `progress` a percentage. */
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
      /** Every file that will be needed. */
      readonly files: Readonly<Record<string, FileProgress>>;
    } & FileProgress)
  | { readonly status: 'ready'; readonly task: string; readonly model: string };

/** Told how loading goes: `initiate`, `download` unless the file was here, `progress`, `done`; at the end `ready`. */
export type ProgressCallback = (info: ProgressInfo) => void;

/** Tells of one file. */
interface FileReporter {
  /** It is asked for. */
  initiate(): void;
  /** It is not here yet. */
  download(): void;
  loaded(bytes: number): void;
  done(): void;
}

/** As fine as a progress bar shows it: a large file is no reason for a million events. */
const STEPS = 1000;

/** Makes reporters; `expected` are the sizes of the files that will be needed, as far as that is known. */
export function progressReporter(
  name: string,
  tell: ProgressCallback,
  expected: ReadonlyMap<string, number> = new Map(),
): (file: string, total: number) => FileReporter {
  const files = new Map<string, FileProgress>([...expected].map(([file, total]) => [file, { loaded: 0, total }]));
  return (file, total) => {
    let step = -1;
    return {
      initiate() {
        tell({ status: 'initiate', name, file });
      },
      download() {
        tell({ status: 'download', name, file });
      },
      loaded(loaded) {
        const reached = Math.floor(STEPS * share(loaded, total));
        if (reached === step) return;
        step = reached;
        files.set(file, { loaded, total });
        tell({ status: 'progress_total', name, ...totals(files) });
        tell({ status: 'progress', name, file, progress: 100 * share(loaded, total), loaded, total });
      },
      done() {
        tell({ status: 'done', name, file });
      },
    };
  };
}

function totals(files: ReadonlyMap<string, FileProgress>) {
  const sum = (key: keyof FileProgress): number => [...files.values()].reduce((all, file) => all + file[key], 0);
  const [loaded, total] = [sum('loaded'), sum('total')];
  return { progress: 100 * share(loaded, total), loaded, total, files: Object.fromEntries(files) };
}

/** An empty file is here as soon as it is asked for. */
function share(loaded: number, total: number): number {
  return total === 0 ? 1 : loaded / total;
}
