import { createHash, randomBytes } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { folderOfTest } from '../vitest/temporary-folder.js';
import { BuildError } from './build-error.js';
import { download, fetchText } from './download.js';

const content = randomBytes(200_000);
const sha256 = createHash('sha256').update(content).digest('hex');

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

/** Sends the file, or the requested range. */
const whole: Answer = ({ headers: { range } }, response) => {
  const start = Number(/bytes=(\d+)-/.exec(range ?? '')?.[1] ?? 0);
  const rest = content.subarray(start);
  response.writeHead(range ? 206 : 200, { 'content-length': rest.length }).end(rest);
};

const sizeOf = (file: string): number => statSync(file, { throwIfNoEntry: false })?.size ?? 0;

describe('download', () => {
  let file = '';
  let server: Server;
  let url = '';
  let ranges: (string | undefined)[];
  let answers: Answer[];

  beforeEach(async () => {
    vi.stubEnv('no_proxy', '127.0.0.1');
    file = join(folderOfTest(), 'cache', 'a.whl');
    [ranges, answers] = [[], []];
    server = createServer((request, response) => {
      ranges.push(request.headers.range);
      (answers.shift() ?? whole)(request, response);
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/a.whl`;
  });
  afterEach(async () => {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
    vi.unstubAllEnvs();
  });

  const partial = (): string => `${file}.partial`;

  /** Sends this many more bytes, and then closes the connection. */
  const cut =
    (bytes: number): Answer =>
    ({ headers: { range } }, response) => {
      const start = Number(/bytes=(\d+)-/.exec(range ?? '')?.[1] ?? 0);
      response.writeHead(range ? 206 : 200, { 'content-length': content.length - start });
      response.write(content.subarray(start, start + bytes));
      const watch = setInterval(() => {
        if (sizeOf(partial()) < start + bytes) return;
        clearInterval(watch);
        response.destroy();
      }, 5);
    };

  const expectContent = async (): Promise<void> => {
    expect((await readFile(file)).equals(content)).toBe(true);
  };

  it('fetches a file once, and again if its content has changed', async () => {
    const seen: number[] = [];
    await download({ url, sha256 }, file, (done, total) => seen.push(done / (total ?? NaN)));
    await expectContent();
    expect([existsSync(partial()), seen.at(-1)]).toEqual([false, 1]);
    await download({ url, sha256 }, file);
    expect(ranges).toHaveLength(1);
    await writeFile(file, 'something else');
    await download({ url, sha256 }, file);
    await expectContent();
  });

  it('resumes where the connection broke', async () => {
    answers = [cut(50_000), cut(70_000)];
    await download({ url, sha256 }, file);
    expect(ranges).toEqual([undefined, 'bytes=50000-', 'bytes=120000-']);
    await expectContent();
  });

  it('resumes where an earlier call gave up without leaving a file', async () => {
    answers = [cut(50_000), cut(0)];
    await expect(download({ url, sha256 }, file)).rejects.toThrow(
      /was interrupted after 50000 bytes; run the command again/,
    );
    expect([existsSync(file), sizeOf(partial())]).toEqual([false, 50_000]);
    await download({ url, sha256 }, file);
    expect(ranges.at(-1)).toBe('bytes=50000-');
    await expectContent();
  });

  it('starts from the beginning with a server that does not support ranges', async () => {
    answers = [cut(50_000), (_, response) => response.writeHead(200).end(content)];
    await download({ url, sha256 }, file);
    await expectContent();
  });

  it('deletes a file with another checksum', async () => {
    answers = [(_, response) => response.end('<html>')];
    const got = createHash('sha256').update('<html>').digest('hex');
    await expect(download({ url, sha256 }, file)).rejects.toThrow(`expected sha256 ${sha256}, got ${got}`);
    expect([existsSync(file), existsSync(partial())]).toEqual([false, false]);
  });

  it('accepts a partial file that is already complete, and deletes one that is too long', async () => {
    answers = [cut(content.length), (_, response) => response.writeHead(416).end()];
    await download({ url, sha256 }, file);
    await expectContent();
    await rm(file);
    await writeFile(partial(), Buffer.concat([content, content]));
    answers = [(_, response) => response.writeHead(416).end()];
    await expect(download({ url, sha256 }, file)).rejects.toThrow(/has the wrong content/);
    await download({ url, sha256 }, file);
    await expectContent();
  });

  it('names a host that refuses or cannot be reached, without passwords', async () => {
    answers = [(_, response) => response.writeHead(404).end()];
    const secret = url.replace('127', 'user:secret@127');
    const refusal = await fetchText(secret, 'text/html').catch((error: unknown) => error);
    expect(refusal).toEqual(new BuildError('missing', `${url} answers 404 Not Found`));
    await new Promise((done) => server.close(done));
    await expect(download({ url: url.replace('a.whl', 'b.whl'), sha256 }, file)).rejects.toThrow(
      /^127\.0\.0\.1:\d+ cannot be reached: .*ECONNREFUSED/,
    );
  });

  it('retries once when the connection is closed without an answer', async () => {
    const hangUp: Answer = ({ socket }) => void socket.destroy();
    answers = [hangUp];
    await download({ url, sha256 }, file);
    await expectContent();
    answers = [hangUp, hangUp];
    await expect(fetchText(url, 'text/html')).rejects.toThrow(/cannot be reached/);
    expect(ranges).toHaveLength(4);
  });

  it('sends the name and password of an index', async () => {
    answers = [({ headers }, response) => response.end(headers.authorization)];
    const { body } = await fetchText(url.replace('127', 'us%40er:secret@127'), 'text/html');
    expect(body).toBe(`Basic ${btoa('us@er:secret')}`);
  });
});
