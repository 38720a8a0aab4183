// The servers of the starters, with a classifier that answers with the text itself.
import { once } from 'node:events';
import { connect } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';

/** Imports a template's module, which has the packages of a project and no types. */
const template = (path: string): Promise<unknown> =>
  import(/* @vite-ignore */ new URL(`../templates/${path}`, import.meta.url).href);

const waiting: (() => void)[] = [];
const classify = (text: string): Promise<string> =>
  text === 'wait' ? new Promise((resolve) => waiting.push(() => resolve(text))) : Promise.resolve(text);

beforeAll(() => {
  vi.doMock('peftjs', () => ({ PeftError: class extends Error {}, pipeline: () => Promise.resolve(classify) }));
});
afterAll(() => {
  vi.doUnmock('peftjs');
});

const asked = (body: string) => ({ method: 'POST', body });
const LONGEST = 'é'.repeat(32_768); // 64 KB
const REFUSAL = [413, { error: 'Expected a text of at most 65536 bytes.' }];

it('the route of Next.js refuses texts of more than 64 KB', async () => {
  const { POST } = (await template('next/app/api/classify/route.js')) as { POST(asked: Request): Promise<Response> };
  const answered = (body: string): Promise<Response> => POST(new Request('http://localhost', asked(body)));
  expect(await (await answered(LONGEST)).json()).toBe(LONGEST);
  const refused = await answered(`${LONGEST}.`);
  expect([refused.status, await refused.json()]).toEqual(REFUSAL);
});

describe('serve.js', () => {
  const listeners = new Map<unknown, () => void>();
  let address = '';
  beforeAll(async () => {
    vi.stubEnv('PORT', '0');
    const log = vi.spyOn(console, 'log').mockImplementation((line: string) => void (address = line));
    const onSignal = vi.spyOn(process, 'once').mockImplementation((signal: unknown, listener: () => void) => {
      listeners.set(signal, listener);
      return process;
    });
    await template('node/serve.js');
    onSignal.mockRestore();
    await vi.waitFor(() => expect(address).not.toBe(''));
    log.mockRestore();
    vi.unstubAllEnvs();
  });

  it('refuses texts of more than 64 KB, however long', async () => {
    expect(await (await fetch(address, asked(LONGEST))).json()).toBe(LONGEST);
    for (const body of [`${LONGEST}.`, LONGEST.repeat(128)]) {
      const refused = await fetch(address, asked(body));
      expect([refused.status, await refused.json()]).toEqual(REFUSAL);
    }
  });

  it('logs nothing of a client that hangs up in the middle of its body', async () => {
    const log = vi.spyOn(console, 'error').mockImplementation(() => undefined);
    onTestFinished(() => log.mockRestore());
    const client = connect(Number(new URL(address).port), 'localhost');
    client.resume().end('POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n\r\nso');
    await once(client, 'close');
    await setImmediate();
    expect(log).not.toHaveBeenCalled();
  });

  it('answers the requests that it has when a signal ends it, and takes no more', async () => {
    const exit = vi.spyOn(process, 'exit').mockReturnValue(undefined as never);
    onTestFinished(() => exit.mockRestore());
    const answer = fetch(address, asked('wait'));
    await vi.waitFor(() => expect(waiting).toHaveLength(1));
    expect([...listeners.keys()]).toEqual(['SIGINT', 'SIGTERM']);
    listeners.get('SIGTERM')?.();
    await expect(fetch(address, asked('more'))).rejects.toThrow();
    expect(exit).not.toHaveBeenCalled();
    waiting[0]?.();
    expect(await (await answer).json()).toBe('wait');
    await vi.waitFor(() => expect(exit).toHaveBeenCalledOnce(), { timeout: 10_000 });
  });
});
