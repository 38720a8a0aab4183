/** Things of one kind, by key, each made once and shared by its users. */
export interface Leases<K, T> {
  /** Returns the thing of a key, made if there is none. Release it after use, unless it is a promise that failed. */
  acquire(key: K, make: () => T): T;
  /**
   * Ends a use. The thing stays for the next user, unless too many others were released later.
   * @param isKept false if it is to be disposed of after its last use
   */
  release(key: K, isKept?: boolean): Promise<void>;
  /** Disposes of all things without users, or of that of one key if it has none. */
  clear(only?: K): Promise<void>;
}

/**
 * Keeps what is worth sharing and does not free itself, e.g. native sessions and memory of a device.
 * @param idle the most things without users that stay: those released last
 */
export function leases<K, T>(idle: number, dispose: (thing: T) => unknown): Leases<K, T> {
  const held = new Map<K, { readonly thing: T; users: number }>(); // the one released last is last

  const made = (key: K, make: () => T): { readonly thing: T; users: number } => {
    const own = { thing: make(), users: 0 };
    held.set(key, own);
    // What could not be made is made again for its next user.
    if (own.thing instanceof Promise) own.thing.catch(() => held.get(key) === own && held.delete(key));
    return own;
  };
  const disposeOf = async (keys: readonly K[]): Promise<void> => {
    const things = keys.flatMap((key) => held.get(key) ?? []);
    for (const key of keys) held.delete(key);
    for (const { thing } of things) await dispose(thing);
  };
  const unused = (): K[] => [...held].flatMap(([key, { users }]) => (users === 0 ? [key] : []));
  const surplus = (): K[] => unused().reverse().slice(idle);

  return {
    acquire(key, make) {
      const found = held.get(key) ?? made(key, make);
      found.users++;
      return found.thing;
    },
    async release(key, isKept = true) {
      const found = held.get(key);
      if (!found) return;
      found.users--;
      held.delete(key);
      held.set(key, found);
      await disposeOf(isKept || found.users > 0 ? surplus() : [key]);
    },
    async clear(only) {
      await disposeOf(unused().filter((key) => only === undefined || key === only));
    },
  };
}

/** Keeps what is used at once and never released: {@link leases} whose uses end as they begin. */
export function recentlyUsed<T>(most: number, dispose: (item: T) => unknown) {
  const kept = leases<string, T>(most, dispose);
  return {
    /** Returns the thing of a key, made if there is none. Beyond `most`, the least recently used one is disposed of. */
    get(key: string, make: () => T): T {
      const thing = kept.acquire(key, make);
      // No caller awaits what is disposed of, so an error would be an unhandled rejection.
      kept.release(key).catch(() => undefined);
      return thing;
    },
    /** Disposes of all. */
    clear: () => kept.clear(),
  };
}

const identities = new WeakMap<object, number>();
let identityCount = 0;

/** Returns a number that no other object has: a key that does not keep the object alive. */
export function identityOf(object: object): number {
  const number = identities.get(object) ?? ++identityCount;
  identities.set(object, number);
  return number;
}
