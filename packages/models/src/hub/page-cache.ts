/** Caches files in a web page: in its Cache API if it has one (over HTTPS or on localhost) with room, else in memory. */
import { warnOnce } from '@peftjs/core/method';
import type { ByteSource } from '@peftjs/safetensors';
import { hexDigest } from '../fingerprint.js';
import { reasonOf } from '../json.js';
import { gitPrefix, isSha256, mismatch, type HubCache, type Part } from './download.js';
import type { RepoType } from './request.js';
import { isCommit, type ListedFile } from './snapshot.js';

const CACHE_NAME = 'peftjs-hub';

/** The part of the Cache API used here, or its replacement in memory. */
interface PageStore {
  get(url: string): Promise<Blob | undefined>;
  put(url: string, content: Blob): Promise<void>;
  urls(): Promise<readonly string[]>;
}

/** Opens the cache of one repository. Its URLs are keys that only this cache uses. */
export async function pageCache(repo: string, type: RepoType, endpoint: string): Promise<HubCache> {
  const { get, put, urls } = await pageStore();
  const root = `${endpoint}/peftjs/${type}s/${repo}`;
  const addressOf = (commit: string, path: string): string =>
    `${root}/snapshots/${commit}/${path.split('/').map(encodeURIComponent).join('/')}`;
  return {
    label: "the page's cache",
    async commitOf(revision) {
      const commit = await (await get(`${root}/refs/${revision}`))?.text();
      return commit !== undefined && isCommit(commit) ? commit : undefined;
    },
    remember: (revision, commit) => put(`${root}/refs/${revision}`, new Blob([commit])),
    async filesAt(commit) {
      const prefix = addressOf(commit, '');
      const here = (await urls()).filter((url) => url.startsWith(prefix));
      return Promise.all(
        here.map(async (url) => ({
          path: decodeURIComponent(url.slice(prefix.length)),
          size: (await get(url))?.size ?? 0,
        })),
      );
    },
    async open(commit, path) {
      const content = await get(addressOf(commit, path));
      return content && blobSource(content);
    },
    async keep(commit, file, fill) {
      const content = await gathered(fill);
      const hash = await hashOf(content, file);
      if (hash !== file.hash) throw mismatch(repo, file, hash);
      await put(addressOf(commit, file.path), content);
    },
  };
}

/** Reads a Blob in pieces. A Blob from the Cache API stays on the disk until it is read. */
function blobSource(content: Blob): ByteSource {
  return {
    size: content.size,
    read: async (offset, length) => new Uint8Array(await content.slice(offset, offset + length).arrayBuffer()),
  };
}

async function gathered(fill: (part: Part) => Promise<void>): Promise<Blob> {
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  let length = 0;
  await fill({
    get length() {
      return length;
    },
    append(bytes) {
      pieces.push(bytes as Uint8Array<ArrayBuffer>);
      length += bytes.length;
      return Promise.resolve();
    },
  });
  return new Blob(pieces);
}

async function hashOf(content: Blob, file: ListedFile): Promise<string> {
  const hashed = isSha256(file) ? content : new Blob([gitPrefix(file), content]);
  return hexDigest(isSha256(file) ? 'SHA-256' : 'SHA-1', new Uint8Array(await hashed.arrayBuffer()));
}

/** A cache of the standard Cache API. */
interface Cache {
  match(url: string): Promise<Response | undefined>;
  put(url: string, response: Response): Promise<void>;
  keys(): Promise<readonly { readonly url: string }[]>;
}

async function pageStore(): Promise<PageStore> {
  try {
    const { caches } = globalThis as { readonly caches?: { open(name: string): Promise<Cache> } };
    return caches ? cacheStore(await caches.open(CACHE_NAME)) : memoryStore();
  } catch {
    return memoryStore(); // a sandboxed frame may not read `caches`, and a page without site data may not open one
  }
}

/** Keeps in memory what the cache has no room for, so that the model can be used nevertheless. */
function cacheStore(cache: Cache): PageStore {
  const refused = memoryStore();
  return {
    get: async (url) => (await refused.get(url)) ?? (await cache.match(url))?.blob(),
    async put(url, content) {
      try {
        await cache.put(url, new Response(content));
      } catch (cause) {
        warnOnce(
          `the page's cache refuses files (${reasonOf(cause)}): they are kept in memory, and downloaded again next time`,
        );
        await refused.put(url, content);
      }
    },
    urls: async () => [...(await refused.urls()), ...(await cache.keys()).map(({ url }) => url)],
  };
}

function memoryStore(): PageStore {
  const contents = new Map<string, Blob>();
  return {
    get: (url) => Promise.resolve(contents.get(url)),
    put(url, content) {
      contents.set(url, content);
      return Promise.resolve();
    },
    urls: () => Promise.resolve([...contents.keys()]),
  };
}
