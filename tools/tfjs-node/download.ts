import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { EnvHttpProxyAgent, fetch, type Response } from 'undici';
import { BuildError } from './build-error.js';
import { mismatch } from './wheels.js';

/** A remote file and its checksum. */
export interface Source {
  /** The URL of the file. */
  readonly url: string;
  /** Its SHA-256 in hexadecimal. */
  readonly sha256: string;
}

/** Reports a download's progress: the bytes so far, and the total if known. */
export type OnProgress = (done: number, total: number | undefined) => void;

/**
 * Fetches a file unless it exists with this checksum. Received bytes are kept next to it as `.partial`, so that the
 * next call resumes there. The file gets its name when it is complete and its checksum is right.
 *
 * @throws BuildError if the server cannot be reached, repeatedly closes the connection without sending more, or sends
 * other content.
 */
export async function download(source: Source, file: string, onProgress: OnProgress = () => undefined): Promise<void> {
  if ((await sha256Of(file)) === source.sha256) return;
  const partial = `${file}.partial`;
  await mkdir(dirname(file), { recursive: true });
  for (let before = -1; !(await isWhole(source, partial, onProgress));) {
    const after = await sizeOf(partial);
    if (after <= before) throw brokenOff(source, after);
    before = after;
  }
  const got = (await sha256Of(partial)) ?? 'nothing';
  if (got !== source.sha256) {
    await rm(partial, { force: true });
    throw new BuildError('failed', `${source.url} has the wrong content: ${mismatch(source.sha256, got)}`);
  }
  await rename(partial, file);
}

/** Fetches the text at a URL and its content type. @throws BuildError if there is none. */
export async function fetchText(url: string, accept: string): Promise<{ body: string; contentType: string }> {
  const response = await request(url, { accept });
  if (!response.ok) throw refused(url, response);
  return { body: await response.text(), contentType: response.headers.get('content-type') ?? '' };
}

/** Appends the missing bytes; returns false if the connection broke before the end. */
async function isWhole({ url }: Source, partial: string, onProgress: OnProgress): Promise<boolean> {
  const start = await sizeOf(partial);
  const response = await request(url, start > 0 ? { range: `bytes=${start}-` } : {});
  if (response.status === 416) return true; // nothing follows `start`
  if (!response.ok || response.body === null) throw refused(url, response);
  const isContinued = response.status === 206;
  let done = isContinued ? start : 0;
  const length = Number(response.headers.get('content-length') ?? NaN);
  const total = Number.isNaN(length) ? undefined : done + length;
  const counted = async function* (chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      yield chunk;
      onProgress((done += chunk.length), total);
    }
  };
  try {
    await pipeline(
      Readable.fromWeb(response.body),
      counted,
      createWriteStream(partial, { flags: isContinued ? 'a' : 'w' }),
    );
    return true;
  } catch (cause) {
    if (isDiskError(cause)) throw new BuildError('missing', `${partial} cannot be written: ${cause.message}`, cause);
    return false;
  }
}

function isDiskError(error: unknown): error is NodeJS.ErrnoException {
  return ['ENOSPC', 'EACCES', 'EROFS', 'EDQUOT'].includes((error as NodeJS.ErrnoException).code ?? '');
}

/** Uses the proxies in HTTP_PROXY, HTTPS_PROXY and NO_PROXY. */
const agent = new EnvHttpProxyAgent({
  headersTimeout: 60_000,
  bodyTimeout: 60_000,
  connect: { timeout: 30_000 },
});

async function request(address: string, headers: Record<string, string>): Promise<Response> {
  const url = new URL(address);
  const { username, password } = url;
  // `fetch` does not accept credentials in a URL, where package indexes have them.
  const authorization = `Basic ${btoa(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`)}`;
  url.username = url.password = '';
  const answer = () => fetch(url, { headers: username ? { ...headers, authorization } : headers, dispatcher: agent });
  try {
    return await answer().catch((error: unknown) => {
      if (wasClosed(error)) return answer();
      throw error;
    });
  } catch (cause) {
    const reason = (cause as Error).cause ?? cause;
    throw new BuildError('missing', `${url.host} cannot be reached: ${(reason as Error).message}`, cause);
  }
}

/** Whether the server closed the connection without an answer, as can happen when a kept-alive connection is reused. */
function wasClosed(error: unknown): boolean {
  const { cause } = error as { cause?: { code?: string } };
  return ['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE'].includes(cause?.code ?? '');
}

function refused(url: string, { status, statusText }: Response): BuildError {
  const { origin, pathname } = new URL(url);
  return new BuildError('missing', `${origin}${pathname} answers ${status} ${statusText}`.trimEnd());
}

function brokenOff({ url }: Source, bytes: number): BuildError {
  const { host } = new URL(url);
  return new BuildError(
    'missing',
    `the download from ${host} was interrupted after ${bytes} bytes; run the command again to resume it`,
  );
}

async function sizeOf(file: string): Promise<number> {
  return (await stat(file).catch(() => undefined))?.size ?? 0;
}

/** Returns a file's SHA-256; undefined if it does not exist. */
async function sha256Of(file: string): Promise<string | undefined> {
  if ((await stat(file).catch(() => undefined)) === undefined) return undefined;
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  return hash.digest('hex');
}
