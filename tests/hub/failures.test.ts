import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PeftError } from '@peftjs/core';
import { fromPretrained, HubError, hubFiles } from '@peftjs/models';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { bertFiles } from '../models/bert-tiny.js';
import { BERT, bertRepo, filesBelow, FIRST, text, useHub } from './harness.js';
import { etagOf, type Disturbance } from './server.js';

const use = useHub();
const TOKEN = 'hf_onlyForThisTest123';
const weights = bertFiles['model.safetensors'] as Uint8Array;
/** The large file, which is in the store. */
const STORED = /^\/[0-9a-f]{64}$/;
const CONFIG = /\/resolve\/.*\/config\.json$/;
const REVISION = /\/revision\//;

async function failure(loading: Promise<unknown>): Promise<PeftError> {
  const error = await loading.then(
    () => expect.fail('it was loaded'),
    (error: unknown) => error,
  );
  expect(error).toBeInstanceOf(PeftError);
  const { message, path } = error as PeftError;
  expect(message).not.toContain('\n');
  expect(message).not.toContain(TOKEN);
  expect(message).not.toContain('secret-of-the-store');
  expect(path).toBeTypeOf('string');
  return error as PeftError;
}

/** Makes waits ten times shorter until the test has ended: without this, five attempts take four seconds. */
function shortenWaits(): void {
  const { setTimeout } = globalThis;
  vi.stubGlobal('setTimeout', (act: () => void, ms = 0, ...given: []) => setTimeout(act, ms / 10, ...given));
  onTestFinished(() => void vi.unstubAllGlobals());
}

const blobs = (): Promise<string[]> => readdir(join(use.home, 'hub/models--peftjs-tests--bert-tiny/blobs'));
const sentFrom = (path: RegExp): number =>
  use.hub.seen.reduce((sum, one) => sum + (one.at === 'store' && path.test(one.path) ? one.sent : 0), 0);

describe('an error of the hub says what to do', () => {
  it.each<[what: string, prepare: () => void, load: () => Promise<unknown>, message: RegExp, status: number]>([
    [
      'a missing model, without a token',
      () => undefined,
      () => fromPretrained('peftjs-tests/none'),
      /^there is no folder 'peftjs-tests\/none', and on the hub peftjs-tests\/none: the hub at http:\/\/127\.0\.0\.1:\d+ answers 401: there is no such model, or it is private or gated; check the id, and set HF_TOKEN to a token that can read it$/,
      401,
    ],
    [
      'a missing model, with a token',
      () => (process.env.HF_TOKEN = TOKEN),
      () => fromPretrained('peftjs-tests/none'),
      /answers 404: there is no such model, or no revision 'main': check both$/,
      404,
    ],
    [
      'a gated model, with a token',
      () => {
        process.env.HF_TOKEN = TOKEN;
        use.hub.repos.splice(0, 1, bertRepo({ gated: true }));
      },
      () => fromPretrained(BERT),
      /answers 403: the model is gated or private: ask for access on its page, and HF_TOKEN is not valid or cannot read it$/,
      403,
    ],
    [
      'a missing revision',
      () => undefined,
      () => fromPretrained(BERT, { revision: 'v9' }),
      /bert-tiny: the hub at .* answers 404: it has no revision 'v9'$/,
      404,
    ],
    [
      'a file that is listed but missing',
      () => use.hub.disturb(CONFIG, { status: 404, headers: { 'X-Error-Code': 'EntryNotFound' } }),
      () => fromPretrained(BERT),
      /^peftjs-tests\/bert-tiny\/config\.json: the hub at .* answers 404: there is no such file at 'main'$/,
      404,
    ],
    [
      'a hub that fails',
      () =>
        use.hub.disturb(
          REVISION,
          ...Array.from({ length: 5 }, () => ({ status: 503, headers: { 'Retry-After': '0' } })),
        ),
      () => hubFiles({ repo: BERT }),
      /answers 503: it failed 5 times; try again later$/,
      503,
    ],
    [
      'too many requests, repeatedly',
      () =>
        use.hub.disturb(
          REVISION,
          ...Array.from({ length: 5 }, () => ({ status: 429, headers: { 'Retry-After': '0' } })),
        ),
      () => hubFiles({ repo: BERT }),
      /answers 429: too many requests; it asks to wait 0 s, or set HF_TOKEN, which raises the limit$/,
      429,
    ],
    [
      'too many requests, and too long a wait',
      () => use.hub.disturb(REVISION, { status: 429, headers: { RateLimit: '"api";r=0;t=247' } }),
      () => hubFiles({ repo: BERT }),
      /answers 429: too many requests; it asks to wait 247 s, or set HF_TOKEN/,
      429,
    ],
    [
      'something else',
      () => use.hub.disturb(REVISION, { status: 418 }),
      () => hubFiles({ repo: BERT }),
      /answers 418: expected a file; is HF_ENDPOINT a hub\?$/,
      418,
    ],
  ])('%s', async (_, prepare, load, message, status) => {
    prepare();
    const error = await failure(load());
    expect(error).toBeInstanceOf(HubError);
    expect(error.message).toMatch(message);
    expect(error).toMatchObject({ code: 'PEFT_HUB', status });
  });

  it('a plain name is not looked up on the hub', async () => {
    await expect(failure(fromPretrained('bert-tiny'))).resolves.toMatchObject({ code: 'PEFT_CHECKPOINT' });
    expect(use.hub.seen).toEqual([]);
  });
});

describe('a busy hub', () => {
  it('is waited for as long as it asks', async () => {
    const when = new Date(Date.now() + 1500).toUTCString();
    use.hub.disturb(
      REVISION,
      { status: 429, headers: { 'Retry-After': '1' } },
      { status: 503, headers: { 'Retry-After': when } },
    );
    const began = Date.now();
    expect((await hubFiles({ repo: BERT })).commit).toBe(FIRST);
    expect(Date.now() - began).toBeGreaterThan(950);
    expect(use.hub.seen.filter(({ path }) => REVISION.test(path))).toHaveLength(3);
  });

  it('may also be busy for files', async () => {
    use.hub.disturb(CONFIG, { status: 429, headers: { RateLimit: '"resolvers";r=0;t=0' } });
    use.hub.disturb(STORED, { status: 502 });
    await expect(fromPretrained(BERT)).resolves.toMatchObject({ name: BERT });
  });
});

describe('a hub that does not answer', () => {
  it('is reported as such', async () => {
    process.env.HF_ENDPOINT = 'http://127.0.0.1:9';
    const error = await failure(fromPretrained(BERT));
    expect(error).toMatchObject({ code: 'PEFT_HUB', status: undefined, isOffline: true });
    expect(error.message).toMatch(
      /^there is no folder 'peftjs-tests\/bert-tiny', and on the hub peftjs-tests\/bert-tiny: the hub at http:\/\/127\.0\.0\.1:9 cannot be reached \(.+\): check/,
    );
  });

  it.each([
    ['a page of text', { status: 200, body: '<html>' }],
    ['an invalid commit', { status: 200, headers: { 'Content-Type': 'application/json' }, body: '{"sha":"../x"}' }],
    ['nothing', { status: 200, headers: { 'Content-Type': 'application/json' }, body: 'null' }],
  ] satisfies [string, Disturbance][])('as a hub: %s', async (_, answer) => {
    use.hub.disturb(REVISION, answer);
    const error = await failure(hubFiles({ repo: BERT }));
    expect(error.message).toMatch(/does not answer like a hub: .+; check HF_ENDPOINT$/);
  });
});

describe('a list from a hostile hub is rejected', () => {
  const good = { type: 'file', path: 'x', size: 1, oid: FIRST };
  it.each<[string, unknown]>([
    ['a path out of the folder', [{ ...good, path: '../../x' }]],
    ['a path out of the folder in the middle', [{ ...good, path: 'a/../../x' }]],
    ['a Windows path out of the folder', [{ ...good, path: '..\\x' }]],
    ['an absolute path', [{ ...good, path: '/etc/x' }]],
    ['a drive', [{ ...good, path: 'C:x' }]],
    ['a control character', [{ ...good, path: 'a\u0000b' }]],
    ['an empty path', [{ ...good, path: '' }]],
    ['a path that is not a string', [{ ...good, path: 7 }]],
    ['a negative size', [{ ...good, size: -1 }]],
    ['a size that is a string', [{ ...good, size: '1' }]],
    ['a hash that is a path', [{ ...good, oid: '../../../x' }]],
    ['a hash of large files that is a path', [{ ...good, lfs: { oid: '../x', size: 1, pointerSize: 1 } }]],
    ['no hash', [{ ...good, oid: undefined }]],
    ['not a list', { error: 'x' }],
    ['null', [null]],
  ])('%s', async (_, list) => {
    use.hub.listing = () => list;
    const error = await failure(hubFiles({ repo: BERT }));
    expect(error.message).toMatch(/^peftjs-tests\/bert-tiny: http:.* does not answer like a hub: /);
    expect([...(await filesBelow(use.home)).keys()]).toEqual([]);
  });

  it.each(['results_2023-08-09T10:14:02.json', 'img/👨‍👩‍👧.png'])('%s is a file like others', async (path) => {
    use.hub.listing = (files) => [...files, { ...good, path }];
    expect((await hubFiles({ repo: BERT })).files.map((file) => file.path)).toContain(path);
  });

  it('an endless list is rejected', async () => {
    use.hub.listing = () => Array.from({ length: 100_001 }, (_, index) => ({ ...good, path: `x${index}` }));
    expect((await failure(hubFiles({ repo: BERT }))).message).toMatch(/at most 100000 files are read/);
    use.hub.listing = () => [{ ...good, path: 'x'.repeat(65 * 2 ** 20) }];
    expect((await failure(hubFiles({ repo: BERT }))).message).toMatch(/more than 67108864 bytes in one answer/);
  });

  it.each([
    ['no file', () => [], /its list continues after a page without files; check HF_ENDPOINT$/],
    ['the same file', () => [good], /at most 500 pages of files are read; check HF_ENDPOINT$/],
  ])('endless pages of %s are rejected', async (_, listing, message) => {
    Object.assign(use.hub, { pageSize: 0, listing }); // each page names itself as the next one
    expect((await failure(hubFiles({ repo: BERT }))).message).toMatch(message);
  });
});

describe('a damaged file', () => {
  const changed = weights.slice();
  changed[100_000] = (changed[100_000] ?? 0) ^ 1;

  it('is rejected by its hash, and not kept', async () => {
    use.hub.disturb(STORED, { content: changed });
    const error = await failure(fromPretrained(BERT));
    expect(error.message).toMatch(
      new RegExp(
        `^peftjs-tests/bert-tiny/model\\.safetensors: expected SHA-256 ${etagOf(weights)}, got [0-9a-f]{64}: the download is damaged`,
      ),
    );
    expect(await blobs()).toHaveLength(2);
    await expect(fromPretrained(BERT)).resolves.toMatchObject({ name: BERT });
  });

  it('is rejected by its git hash if it is small', async () => {
    use.hub.disturb(CONFIG, {
      content: (bertFiles['config.json'] as Uint8Array).map((byte) => (byte === 32 ? 10 : byte)),
    });
    expect((await failure(fromPretrained(BERT))).message).toMatch(
      /^peftjs-tests\/bert-tiny\/config\.json: expected git's SHA-1 [0-9a-f]{40}, got/,
    );
  });

  it.each([
    ['longer', new Uint8Array(weights.length + 1), /listed 146644 bytes but sent more than 146644 bytes/],
    ['shorter', weights.slice(0, 1000), /the connection was cut 5 times|answers 416|instead of/],
  ])('is refused when it is %s than listed', async (_, content, message) => {
    use.hub.disturb(STORED, ...Array.from({ length: 12 }, () => ({ content })));
    expect((await failure(fromPretrained(BERT))).message).toMatch(message);
    expect((await blobs()).filter((name) => name === etagOf(weights))).toEqual([]);
  });

  it('of an earlier attempt is deleted, and the file is downloaded again', async () => {
    shortenWaits();
    use.hub.disturb(STORED, { cutAfter: 50_000 }, ...Array.from({ length: 5 }, () => ({ cutAfter: 0 })));
    await failure(fromPretrained(BERT));
    const [rest] = (await blobs()).filter((name) => name.endsWith('.incomplete'));
    await writeFile(join(use.home, 'hub/models--peftjs-tests--bert-tiny/blobs', rest ?? ''), new Uint8Array(50_000));
    await expect(fromPretrained(BERT)).resolves.toMatchObject({ name: BERT });
    expect((await blobs()).sort()).toEqual(Object.values(bertFiles).map(etagOf).sort());
  });
});

describe('a broken connection', () => {
  it('is resumed where it broke', async () => {
    use.hub.disturb(STORED, { cutAfter: 40_000 }, { cutAfter: 1 }, { cutAfter: 60_000 });
    await expect(fromPretrained(BERT)).resolves.toMatchObject({ name: BERT });
    const ranges = use.hub.seen.flatMap(({ at, range }) => (at === 'store' ? [range] : []));
    expect(ranges).toEqual([undefined, 'bytes=40000-', 'bytes=40001-', 'bytes=100001-']);
    expect(sentFrom(STORED)).toBe(weights.length); // not a byte twice
  });

  it('is resumed as often as necessary, as long as bytes arrive', async () => {
    use.hub.disturb(STORED, ...Array.from({ length: 9 }, () => ({ cutAfter: 15_000 })));
    await expect(fromPretrained(BERT)).resolves.toMatchObject({ name: BERT });
    expect(sentFrom(STORED)).toBe(weights.length);
  });

  it('restarts from the beginning if the server does not support ranges', async () => {
    use.hub.disturb(STORED, { cutAfter: 40_000 }, { ignoreRange: true });
    await expect(fromPretrained(BERT)).resolves.toMatchObject({ name: BERT });
    expect(sentFrom(STORED)).toBe(40_000 + weights.length);
  });

  it('is an error if it breaks again and again, and the next call resumes', async () => {
    shortenWaits();
    // Less than the 64 KiB that arrive at once: fetch drops a second part if the connection breaks while the first is written.
    use.hub.disturb(STORED, { cutAfter: 60_000 }, ...Array.from({ length: 5 }, () => ({ cutAfter: 0 })));
    const error = await failure(fromPretrained(BERT));
    expect(error.message).toMatch(
      /^peftjs-tests\/bert-tiny\/model\.safetensors: the connection was cut 5 times \(.+\) at 60000 of 146644 bytes; load it again to resume$/,
    );
    use.hub.seen.length = 0;
    await expect(fromPretrained(BERT)).resolves.toMatchObject({ name: BERT });
    expect(sentFrom(STORED)).toBe(weights.length - 60_000);
    expect((await blobs()).filter((name) => name.endsWith('.incomplete'))).toEqual([]);
  });
});

describe('a server that sends one byte per connection', () => {
  it('is given up, and the next call resumes', async () => {
    shortenWaits();
    use.hub.disturb(STORED, { cutAfter: 60_000 }, ...Array.from({ length: 40 }, () => ({ cutAfter: 1 })));
    const error = await failure(fromPretrained(BERT));
    expect(error.message).toMatch(/the connection was cut 5 times \(.+\) at 60005 of 146644 bytes; load it again/);
    use.hub.calm();
    await expect(fromPretrained(BERT)).resolves.toMatchObject({ name: BERT });
  });
});

describe('an impossible option or variable', () => {
  it.each<[string, Record<string, string>, object, RegExp]>([
    ['HF_ENDPOINT that is no address', { HF_ENDPOINT: 'hub' }, {}, /HF_ENDPOINT must be a URL/],
    ['HF_ENDPOINT of a disk', { HF_ENDPOINT: 'file:///etc' }, {}, /HF_ENDPOINT must be a URL/],
    ['HF_ENDPOINT with a password', { HF_ENDPOINT: `http://u:${TOKEN}@host` }, {}, /without a password/],
    ['hubUrl that is no address', {}, { hubUrl: '' }, /hubUrl must be a URL/],
    ['HF_TOKEN of two lines', { HF_TOKEN: `${TOKEN}\nx: y` }, {}, /HF_TOKEN must be a hub token/],
    ['HF_TOKEN with a blank', { HF_TOKEN: `x ${TOKEN}` }, {}, /its value is not shown/],
    [
      'a revision that leads out of the repository',
      {},
      { revision: '../../x' },
      /'revision' is '\.\.\/\.\.\/x'; expected a branch/,
    ],
    ['a revision with a query string', {}, { revision: 'main?x' }, /'revision'/],
    ['an empty revision', {}, { revision: '' }, /'revision'/],
    ['a cache that is not a folder', {}, { cacheDir: 7 }, /'cacheDir' is 7; expected a folder/],
    [
      'local_files_only as a string',
      {},
      { local_files_only: 'yes' },
      /'local_files_only' is 'yes'; expected true or false/,
    ],
    [
      'a listener that is not a function',
      {},
      { progress_callback: 1 },
      /'progress_callback' is 1; expected a function/,
    ],
    ['another type of weights', {}, { dtype: 'q5' }, /'dtype' is 'q5'; expected \("fp32" \| "q8" \| "q4"\)/],
    ['a limit of zero', {}, { memoryLimit: 0 }, /'memoryLimit' is 0; expected a number of bytes above 0/],
  ])('%s', async (_, environment, options, message) => {
    Object.assign(process.env, environment);
    const error = await failure(fromPretrained(BERT, options));
    expect(error.code).toBe('PEFT_CONFIG');
    expect(error.message).toMatch(message);
    expect(use.hub.seen).toEqual([]);
  });

  it('an unwritable cache is named', async () => {
    const file = join(use.home, 'a-file');
    await writeFile(file, text('x'));
    const error = await failure(fromPretrained(BERT, { cacheDir: file }));
    expect(error.message).toMatch(
      /^cannot write files to .*a-file\/models--.* \(ENOTDIR\): choose another folder with cacheDir$/,
    );
  });
});
