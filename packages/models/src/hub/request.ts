/**
 * Sends requests to the hub. The token is sent only to the hub, a busy hub is retried, and each refusal becomes one
 * clear line.
 */
import { PeftError } from '@peftjs/core';
import { ConfigError } from '@peftjs/core/method';
import { shown } from '../json.js';
import type { HubSettings } from './options.js';

/** The maximum number of attempts at one request, and at one file without progress. */
export const ATTEMPTS = 5;

const LONGEST_WAIT_SECONDS = 60;
const FIRST_WAIT_SECONDS = 0.25;

/** The statuses of a hub that is busy or temporarily unavailable. */
export const TRANSIENT: readonly number[] = [429, 500, 502, 503, 504];

/** Node's codes of broken connections. */
const BROKEN: readonly string[] = ['ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'UND_ERR_SOCKET', 'UND_ERR_CONNECT_TIMEOUT'];

/**
 * Returns a `fetch` for one subject. It only returns successful responses.
 * @throws HubError for any other response, and when the hub cannot be reached.
 */
export function hubFetch(settings: HubSettings, subject: Subject): typeof fetch {
  return async (input, init = {}) => {
    const url = new URL(input instanceof Request ? input.url : input);
    const headers = withToken(init.headers, url, settings);
    for (let attempt = 1; ; attempt++) {
      const response = await reach(url, { ...init, headers }, { settings, subject, attempt });
      if (response?.ok) return response;
      const wait = response ? requestedWait(response.headers, Date.now()) : undefined;
      if (response) {
        const isFinal =
          !TRANSIENT.includes(response.status) || attempt === ATTEMPTS || (wait ?? 0) > LONGEST_WAIT_SECONDS;
        const said = isFinal && subject.isWritten ? await errorText(response) : undefined;
        if (said === undefined) await response.body?.cancel();
        if (isFinal) throw refusal(response, wait, { settings, subject, said });
      }
      await pause(wait ?? waitBefore(attempt));
    }
  };
}

/** Returns the hub's own error message in a response, as one short line. */
async function errorText(response: Response): Promise<string> {
  const text = await response.text().catch(() => '');
  const reason = /"(?:error|message)"\s*:\s*"((?:[^"\\]|\\.){1,300})/.exec(text.slice(0, 10_000))?.[1] ?? '';
  return reason.replaceAll(/\\[nrt]|\s+/g, ' ').trim();
}

/** Returns the seconds to wait after that many failed attempts. They double each time. */
export function waitBefore(attempt: number): number {
  return FIRST_WAIT_SECONDS * 2 ** (attempt - 1);
}

/** Resolves after that many seconds. */
export function pause(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
}

/** Adds the token for the hub's own origin only. Lists of files and downloads may continue at other servers. */
function withToken(given: RequestInit['headers'], url: URL, { endpoint, token }: HubSettings): Headers {
  const headers = new Headers(given);
  if (token !== undefined && url.origin === new URL(endpoint).origin) headers.set('authorization', `Bearer ${token}`);
  return headers;
}

interface Asking {
  readonly settings: HubSettings;
  readonly subject: Subject;
  readonly attempt: number;
}

/** Returns the response; undefined if the connection broke and the request should be retried. */
async function reach(
  url: URL,
  init: RequestInit,
  { settings, subject, attempt }: Asking,
): Promise<Response | undefined> {
  try {
    return await fetch(url, init);
  } catch (cause) {
    const code = codeOf(cause);
    if (BROKEN.includes(code) && attempt < ATTEMPTS) return undefined;
    throw new HubError(
      `${labelOf(subject)}: the hub at ${settings.endpoint} cannot be reached (${code}): check the network and HF_ENDPOINT; ` +
        'localFilesOnly reads earlier downloads',
      { path: labelOf(subject), cause, isOffline: true },
    );
  }
}

/** Returns the code of a network failure, which `fetch` stores in the error's cause. */
export function codeOf(failure: unknown): string {
  for (let error = failure; error instanceof Error; error = error.cause) {
    const { code } = error as { code?: unknown };
    if (typeof code === 'string') return code;
  }
  return failure instanceof Error ? failure.message : String(failure);
}

/** Returns the wait in seconds that a response asks for, in Retry-After or as `t` in the hub's RateLimit header. */
function requestedWait(headers: Headers, now: number): number | undefined {
  const after = headers.get('retry-after') ?? /;\s*t=(\d+)/.exec(headers.get('ratelimit') ?? '')?.[1];
  if (after === undefined) return undefined;
  const seconds = /^\d+$/.test(after) ? Number(after) : (Date.parse(after) - now) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, seconds) : undefined;
}

/** Returns the error for an unsuccessful response. */
function refusal(
  response: Response,
  wait: number | undefined,
  { settings, subject, said }: Omit<Asking, 'attempt'> & { readonly said: string | undefined },
): PeftError {
  const { status } = response;
  const path = labelOf(subject);
  const reasons = reasonsFor({ settings, subject }, response.headers.get('x-error-code'), wait);
  const reason = reasons[status] ?? 'expected a file; is HF_ENDPOINT a hub?';
  const why = said ? `${reason} (it says: ${said})` : reason;
  return new HubError(`${path}: the hub at ${settings.endpoint} answers ${status}: ${why}`, { path, status });
}

/** Returns why the hub refused a request, by its status. */
function reasonsFor(
  { subject: { what, repo, revision, isWritten }, settings: { token } }: Omit<Asking, 'attempt'>,
  code: string | null,
  wait: number | undefined,
): Readonly<Record<number, string>> {
  const byToken =
    token === undefined ? 'set HF_TOKEN to a token that can read it' : 'HF_TOKEN is not valid or cannot read it';
  const missing = new Map<string | null, string>([
    ['RevisionNotFound', `it has no revision '${revision}'`],
    ['EntryNotFound', `there is no such file at '${revision}'`],
  ]);
  const waiting = wait === undefined ? 'wait a few minutes' : `it asks to wait ${Math.ceil(wait)} s`;
  return {
    ...Object.fromEntries(TRANSIENT.map((status) => [status, `it failed ${ATTEMPTS} times; try again later`])),
    401: `there is no such ${what}, or it is private or gated; check the id, and ${byToken}`,
    403: `the ${what} is gated or private: ask for access on its page, and ${byToken}`,
    404: missing.get(code) ?? `there is no such ${what}, or no revision '${revision}': check both`,
    429: `too many requests; ${waiting}, or set HF_TOKEN, which raises the limit`,
    ...(isWritten && {
      400: 'it rejected the files or their model card',
      401: 'HF_TOKEN is not valid: use one that can write',
      403: `HF_TOKEN cannot write to ${repo}: give it write access, or push to your own name`,
      404: `there is no such repository, or no branch '${revision}', or HF_TOKEN cannot see it`,
      409: `'${revision}' has changed: push again`,
      412: `'${revision}' has changed: push again`,
      413: 'a file is too large',
    }),
  };
}

/** The details of a failure other than its message. */
interface HubFailure {
  readonly path?: string | undefined;
  readonly cause?: unknown;
  /** The HTTP status, if there was a response. */
  readonly status?: number | undefined;
  /** Whether the hub could not be reached. Default false. */
  readonly isOffline?: boolean;
}

/** A failed request to the Hugging Face hub: it refused, could not be reached, or sent unexpected data. */
export class HubError extends PeftError {
  /** The HTTP status; undefined if there was no response, or a successful one with wrong data. */
  readonly status: number | undefined;
  /** Whether the hub could not be reached. If so, the same call may succeed later. */
  readonly isOffline: boolean;

  constructor(message: string, { path, cause, status, isOffline = false }: HubFailure = {}) {
    super('PEFT_HUB', message, { path, cause });
    this.status = status;
    this.isOffline = isOffline;
  }
}

/** The type of a hub repository. */
export type RepoType = 'model' | 'dataset';

/** The subject of a request, for messages. */
export interface Subject {
  /** The repository, `organisation/name`. */
  readonly repo: string;
  /** The type of the repository. */
  readonly type: RepoType;
  /** The type in words: 'model' or 'data set'. */
  readonly what: string;
  /** A branch, a tag or a commit. */
  readonly revision: string;
  /** Whether the request writes to the repository. Default false. */
  readonly isWritten?: boolean;
  /** The path of the file. Absent if the request is not for one file. */
  readonly file?: string;
}

/** Matches the names that the hub allows: no dot or hyphen at either end, and no `..` or `--`. */
const NAME = /^(?!.*(?:--|\.\.))(?!.*\.git$)[\w](?:[\w.-]{0,94}[\w])?$/;

/** Whether a source has the form `organisation/name`, unlike an npm package or a plain word. */
export function isHubId(source: unknown): boolean {
  if (typeof source !== 'string') return false;
  const parts = source.split('/');
  return parts.length === 2 && parts.every((part) => NAME.test(part));
}

/** Returns the subject for a repository at a revision. @throws ConfigError for an invalid type or repository. */
export function subjectOf(repo: string, type: RepoType, revision: string): Subject {
  if (type !== 'model' && (type as string) !== 'dataset') {
    throw new ConfigError(`option 'type' is ${shown(type)}; expected 'model' or 'dataset'`, 'type');
  }
  if (!isHubId(repo) && !(typeof repo === 'string' && NAME.test(repo))) {
    throw new ConfigError(`option 'repo' is ${shown(repo)}; expected a hub id, organisation/name`, 'repo');
  }
  return { repo, type, revision, what: type === 'model' ? 'model' : 'data set' };
}

/** Returns the name of a subject in messages: `organisation/name`, or the path of a file in it. */
export function labelOf({ repo, file }: Subject): string {
  return file === undefined ? repo : `${repo}/${file}`;
}
