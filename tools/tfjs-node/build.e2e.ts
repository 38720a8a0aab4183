import { spawn } from 'node:child_process';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../vitest/temporary-folder.js';

interface Ended {
  readonly code: number | null;
  readonly lines: readonly string[];
}

/** Runs the command with this environment only. */
function run(args: readonly string[], environment: Readonly<Record<string, string>>): Promise<Ended> {
  const script = fileURLToPath(new URL('build.ts', import.meta.url));
  const child = spawn(process.execPath, ['--import', 'tsx', script, ...args], {
    env: environment,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
  return new Promise((done) => child.on('close', (code) => done({ code, lines: said.trimEnd().split('\n') })));
}

describe.skipIf(process.platform !== 'linux' || process.arch !== 'x64')('build.ts', () => {
  const folder = temporaryFolder();
  let server: Server;
  let index = '';
  beforeAll(async () => {
    const filename = 'tensorflow_cpu-2.18.1-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl';
    server = createServer((request, response) => {
      response.setHeader('content-type', 'application/vnd.pypi.simple.v1+json');
      const files = [{ filename, url: `/${filename}`, hashes: { sha256: '0'.repeat(64) } }];
      response.end(JSON.stringify({ files: request.url === '/simple/tensorflow-cpu/' ? files : [] }));
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    index = `http://127.0.0.1:${(server.address() as AddressInfo).port}/simple`;
  });
  afterAll(() => new Promise((done) => server.close(done)));

  // Stand-ins for compiler and headers; the build ends before it uses either.
  const ready = { CXX: process.execPath, PATH: '/nowhere' };
  const args = (...more: string[]) => ['--into', folder, '--headers', join(import.meta.dirname, 'fixtures'), ...more];

  it('exits with 3 and one line on a machine without a compiler', async () => {
    const { code, lines } = await run(['--into', folder], { PATH: '/nowhere' });
    expect([code, lines]).toEqual([3, [expect.stringMatching(/^build\.ts: no C\+\+ compiler in PATH/)]]);
  });

  it('exits with 2 and the usage for an unknown version', async () => {
    const { code, lines } = await run(['--into', folder, '--tensorflow', '3.0.0'], ready);
    expect([code, lines[0], lines[1]]).toEqual([
      2,
      expect.stringContaining("--tensorflow is '3.0.0'"),
      expect.stringContaining('usage:'),
    ]);
  });

  it('exits with 1 before the download if the index offers another wheel than the pinned one', async () => {
    const { code, lines } = await run(args(), { ...ready, PIP_INDEX_URL: index });
    expect([code, lines]).toEqual([1, [expect.stringContaining('expected sha256 8e0f27db')]]);
  });

  it('exits with 1 if the index lacks the version, and with 3 if the index cannot be reached', async () => {
    const none = await run(args('--tensorflow', '2.20.0', '--index', index), ready);
    expect([none.code, none.lines]).toEqual([1, [expect.stringContaining('no wheel of tensorflow-cpu 2.20.0')]]);
    const away = await run(args('--index', 'http://127.0.0.1:9/simple'), ready);
    expect([away.code, away.lines]).toEqual([3, [expect.stringContaining('127.0.0.1:9 cannot be reached')]]);
  });
});
