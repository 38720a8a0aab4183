import { describe, expect, it } from 'vitest';
import { identityOf, leases, recentlyUsed } from './leases.js';

/** Leases of texts that number what was made, and the texts that were disposed of. */
function counted(idle: number) {
  const disposed: string[] = [];
  let made = 0;
  const held = leases<string, string>(idle, (thing) => {
    disposed.push(thing);
  });
  return { disposed, held, get: (key: string) => held.acquire(key, () => `${key}${made++}`) };
}

describe('leases', () => {
  it('share what is in use, and keep those released last', async () => {
    const { disposed, held, get } = counted(2);
    expect([get('a'), get('b'), get('c'), get('a')]).toEqual(['a0', 'b1', 'c2', 'a0']);
    for (const key of ['a', 'b', 'c']) await held.release(key);
    expect(disposed).toEqual([]); // a has one user left
    await held.release('a');
    expect(disposed).toEqual(['b1']);
    expect([get('c'), get('b')]).toEqual(['c2', 'b3']);
  });

  it('dispose of what is not kept after its last use, and never of a key that nobody holds', async () => {
    const { disposed, held, get } = counted(2);
    [get('a'), get('a')].forEach(() => undefined);
    await held.release('a', false);
    expect(disposed).toEqual([]);
    await held.release('a', false);
    await held.release('a', false);
    expect(disposed).toEqual(['a0']);
  });

  it('clear what has no users, or one of them', async () => {
    const { disposed, held, get } = counted(9);
    for (const key of ['a', 'b', 'c', 'd']) get(key);
    for (const key of ['a', 'b', 'c']) await held.release(key);
    await held.clear('b');
    await held.clear('d');
    expect(disposed).toEqual(['b1']);
    await held.clear();
    expect(disposed).toEqual(['b1', 'a0', 'c2']);
    expect(get('d')).toBe('d3');
  });

  it('make again what failed, for its next user', async () => {
    const held = leases<string, Promise<string>>(1, () => undefined);
    const failing = () => Promise.reject(new Error('no'));
    const both = await Promise.allSettled([held.acquire('a', failing), held.acquire('a', failing)]);
    expect(both.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    expect(await held.acquire('a', () => Promise.resolve('yes'))).toBe('yes');
  });
});

it('what was used recently stays, and a failing disposal only fails the caller that waits for it', async () => {
  const disposed: string[] = [];
  const kept = recentlyUsed<string>(2, (thing) => {
    disposed.push(thing);
    return Promise.reject(new Error('no'));
  });
  let made = 0;
  const got = ['a', 'b', 'a', 'c', 'b'].map((key) => kept.get(key, () => `${key}${made++}`));
  expect([got, disposed]).toEqual([
    ['a0', 'b1', 'a0', 'c2', 'b3'],
    ['b1', 'a0'],
  ]);
  await expect(kept.clear()).rejects.toThrow('no');
});

it('objects have different numbers, each always the same', () => {
  const [a, b] = [{}, {}];
  expect([identityOf(a) === identityOf(a), identityOf(a) === identityOf(b)]).toEqual([true, false]);
});
