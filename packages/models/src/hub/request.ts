/** Asks the hub: the token goes to it alone, a busy hub is waited for, and every refusal is one clear line. */
import { PeftError } from '@peftjs/core';
import { ConfigError } from '@peftjs/core/method';
import { shown } from '../json.js';
import type { HubSettings } from './options.js';

/** Attempts at one request, and at one file without a byte of progress. */
export const ATTEMPTS = 5;

const LONGEST_WAIT_SECONDS = 60;
const FIRST_WAIT_SECONDS = 0.25;

/** The hub is busy, or what stands before it cannot reach it. */
const PASSING: readonly number[] = [429, 500, 502, 503, 504];

/** A connection that broke, as Node calls it. */
const BROKEN: readonly string[] = ['ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'UND_ERR_SOCKET', 'UND_ERR_CONNECT_TIMEOUT'];

/**
 * A `fetch` for one subject: an answer that it gives is a good one.
 * @throws HubError for any other, and where nobody answers.
 */
export function hubFetch(settings: HubSettings, subject: Subject): typeof fetch {
  return async (input, init = {}) => {
    const url = new URL(input instanceof Request ? input.url : input);
    const headers = withToken(init.headers, url, settings);
    for (let attempt = 1; ; attempt++) {
      const response = await reach(url, { ...init, headers }, { settings, subject, attempt });
      if (response?.ok) return response;
      const wait = response ? secondsAsked(response.headers, Date.now()) : undefined;
      if (response) {
        const isFinal =
          !PASSING.includes(response.status) || attempt === ATTEMPTS || (wait ?? 0) > LONGEST_WAIT_SECONDS;
        const said = isFinal && subject.isWritten ? await whatItSays(response) : undefined;
        if (said === undefined) await response.body?.cancel();
        if (isFinal) throw refusal(response, wait, { settings, subject, said });
      }
      await pause(wait ?? waitBefore(attempt));
    }
  };
}

/** The reason that the hub gives in an answer, as one short line. */
async function whatItSays(response: Response): Promise<string> {
  const text = await response.text().catch(() => '');
  const reason = /"(?:error|message)"\s*:\s*"((?:[^"\\]|\\.){1,300})/.exec(text.slice(0, 10_000))?.[1] ?? '';
  return reason.replaceAll(/\\[nrt]|\s+/g, ' ').trim();
}

/** Waits that double. */
export function waitBefore(attempt: number): number {
  return FIRST_WAIT_SECONDS * 2 ** (attempt - 1);
}

/** Waits. */
export function pause(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
}

/** A list of files may lead to a next page elsewhere, and a file to where it is stored: neither is told the token. */
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

/** The answer; undefined where the connection broke and another attempt is worth it. */
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
        'what was downloaded before is read with localFilesOnly',
      { path: labelOf(subject), cause, isOffline: true },
    );
  }
}

/** The short name of a network failure, which `fetch` keeps as the cause of its own. */
export function codeOf(failure: unknown): string {
  for (let error = failure; error instanceof Error; error = error.cause) {
    const { code } = error as { code?: unknown };
    if (typeof code === 'string') return code;
  }
  return failure instanceof Error ? failure.message : String(failure);
}

/** The seconds after which to ask again, where an answer says so: in Retry-After, or as `t` of the hub's own RateLimit. */
function secondsAsked(headers: Headers, now: number): number | undefined {
  const after = headers.get('retry-after') ?? /;\s*t=(\d+)/.exec(headers.get('ratelimit') ?? '')?.[1];
  if (after === undefined) return undefined;
  const seconds = /^\d+$/.test(after) ? Number(after) : (Date.parse(after) - now) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, seconds) : undefined;
}

/** @throws nothing: gives the error for an answer that is none. */
function refusal(
  response: Response,
  wait: number | undefined,
  { settings, subject, said }: Omit<Asking, 'attempt'> & { readonly said: string | undefined },
): PeftError {
  const { status } = response;
  const path = labelOf(subject);
  const refused = { settings, subject, code: response.headers.get('x-error-code') };
  const reason = (subject.isWritten && whyNotWritten(status, subject)) || reasonOf(status, wait, refused);
  const why = said ? `${reason} (it says: ${said})` : reason;
  return new HubError(`${path}: the hub at ${settings.endpoint} answers ${status}: ${why}`, { path, status });
}

interface Refused {
  readonly settings: HubSettings;
  readonly subject: Subject;
  /** What the hub itself calls the error. */
  readonly code: string | null;
}

function reasonOf(status: number, wait: number | undefined, { settings, subject, code }: Refused): string {
  const { what, revision } = subject;
  const byToken =
    settings.token === undefined
      ? 'set HF_TOKEN to a token that may read it'
      : 'HF_TOKEN is not valid or may not read it';
  switch (status) {
    case 401:
      return `there is no such ${what}, or it is private or gated; check the id, and ${byToken}`;
    case 403:
      return `the ${what} is gated or private: ask for access on its page, and ${byToken}`;
    case 404:
      if (code === 'RevisionNotFound') return `it has no revision '${revision}'`;
      if (code === 'EntryNotFound') return `there is no such file at '${revision}'`;
      return `there is no such ${what}, or no revision '${revision}': check both`;
    case 429:
      return `too many requests; ${wait === undefined ? 'wait a few minutes' : `it asks to wait ${Math.ceil(wait)} s`}, or set HF_TOKEN, which raises the limit`;
    default:
      return PASSING.includes(status)
        ? `it failed ${ATTEMPTS} times; try again later`
        : 'expected a file; is HF_ENDPOINT a hub?';
  }
}

/** Why files are refused; undefined for what is no matter of writing. */
function whyNotWritten(status: number, { repo, revision }: Subject): string | undefined {
  switch (status) {
    case 400:
      return 'it refuses the files or their model card';
    case 401:
      return 'HF_TOKEN is not valid: make one that may write';
    case 403:
      return `HF_TOKEN may not write to ${repo}: give it that right, or push to a name of your own`;
    case 404:
      return `there is no such repository, or no branch '${revision}', or HF_TOKEN may not see it`;
    case 409:
    case 412:
      return `'${revision}' has changed meanwhile: push again`;
    case 413:
      return 'a file is larger than it takes';
    default:
      return undefined;
  }
}

/** What is known of a failure besides its message. */
interface HubFailure {
  readonly path?: string | undefined;
  readonly cause?: unknown;
  /** Of the answer, where there was one. */
  readonly status?: number | undefined;
  /** Nobody answered. */
  readonly isOffline?: boolean;
}

/** The Hugging Face hub gave no file: it refused, was out of reach, or what it sent is not what it promised. */
export class HubError extends PeftError {
  /** The HTTP status; undefined where the hub did not answer, or answered well and wrongly. */
  readonly status: number | undefined;
  /** Whether nobody answered, so that the same call may work with a network. */
  readonly isOffline: boolean;

  constructor(message: string, { path, cause, status, isOffline = false }: HubFailure = {}) {
    super('PEFT_HUB', message, { path, cause });
    this.status = status;
    this.isOffline = isOffline;
  }
}

/** What a repository of the hub holds. */
export type RepoType = 'model' | 'dataset';

/** What the hub is asked for, as messages name it. */
export interface Subject {
  readonly repo: string;
  readonly type: RepoType;
  /** 'model' or 'data set'. */
  readonly what: string;
  readonly revision: string;
  /** Whether it is written to. */
  readonly isWritten?: boolean;
  /** The file, where it is one. */
  readonly file?: string;
}

/** Names as the hub allows them: no dots or hyphens at the ends, none of them twice. */
const NAME = /^(?!.*(?:--|\.\.))(?!.*\.git$)[\w](?:[\w.-]{0,94}[\w])?$/;

/** Whether a source reads as `organisation/name`, which neither a package nor a plain word does. */
export function isHubId(source: string): boolean {
  const parts = source.split('/');
  return parts.length === 2 && parts.every((part) => NAME.test(part));
}

/** A repository at a revision. @throws ConfigError for what cannot be one. */
export function subjectOf(repo: string, type: RepoType, revision: string): Subject {
  if (type !== 'model' && (type as string) !== 'dataset') {
    throw new ConfigError(`option 'type' is ${shown(type)}; expected 'model' or 'dataset'`, 'type');
  }
  if (!isHubId(repo) && !(typeof repo === 'string' && NAME.test(repo))) {
    throw new ConfigError(`option 'repo' is ${shown(repo)}; expected an id of the hub, organisation/name`, 'repo');
  }
  return { repo, type, revision, what: type === 'model' ? 'model' : 'data set' };
}

/** What messages call it: `organisation/name`, or a file of it. */
export function labelOf({ repo, file }: Subject): string {
  return file === undefined ? repo : `${repo}/${file}`;
}
